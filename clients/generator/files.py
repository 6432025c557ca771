"""Which files there are, and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from clients.generator import golang, rust, typescript
from clients.generator.document import Document

__all__ = ["ROOT", "files"]

ROOT: Final = Path(__file__).parents[2]


def files(openrpc: Any) -> dict[Path, str]:
    """The text of every generated file, by its path."""
    document = Document(openrpc)
    clients = ROOT / "clients"
    return {
        clients / "typescript" / "src" / "api.ts": typescript.write(document),
        clients / "go" / "api.go": golang.write(document),
        clients / "rust" / "src" / "api.rs": rust.write(document),
    }
