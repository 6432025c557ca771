"""Makes what of the documents comes from the code: examples that were tried, and the pages of the reference."""

from __future__ import annotations

import json
from pathlib import Path

from coordinator.rpc.openrpc import document
from tools.reference import methods, settings

__all__ = ["ROOT", "made_files"]

ROOT = Path(__file__).parents[2]


def made_files() -> dict[Path, str]:
    """The OpenRPC document and the pages, with the examples that are recorded."""
    pages = {**methods.pages(), **settings.pages()}
    return {
        ROOT / "specs" / "openrpc.json": json.dumps(document(), indent=2) + "\n",
        **{ROOT / "docs" / "reference" / name: text for name, text in pages.items()},
    }
