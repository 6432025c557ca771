"""A peer that is a Rust program: cargo builds it, below the results, from a crate that pins what it depends on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

__all__ = ["built", "is_there", "manifest", "versions"]

_CRATE: Final = Path(__file__).parent / "stacks" / "jsonrpsee"
_DIRECTORY: Final = Path(__file__).parent / "results" / "cargo"
_SHOWN: Final = ("jsonrpsee", "redis")  # of what it depends on


def _cargo() -> str | None:
    """Where it is; rustup puts it where not every PATH leads to."""
    return shutil.which("cargo") or shutil.which("cargo", path=str(Path.home() / ".cargo" / "bin"))


def is_there() -> bool:
    """Whether cargo is on this machine."""
    return _cargo() is not None


def versions() -> dict[str, str]:
    """Of what the crate pins, `redis-rs` under that name; empty without cargo."""
    if not is_there():
        return {}
    pinned = manifest()["dependencies"]
    found = {name: pinned[name]["version"].removeprefix("=") for name in _SHOWN}
    return {"jsonrpsee": found["jsonrpsee"], "redis-rs": found["redis"]}


def built() -> Path:
    """The program, built if it is not or has changed; the first time takes two minutes.

    It is built from a copy, so that neither the lock nor what cargo makes is among the sources.
    """
    cargo = _cargo()
    assert cargo is not None
    crate = _DIRECTORY / "jsonrpsee"
    for source in (Path("Cargo.toml"), Path("src", "main.rs")):
        copy = crate / source
        text = (_CRATE / source).read_text()
        if not copy.exists() or copy.read_text() != text:  # a newer one would be built again
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)
    target = _DIRECTORY / "target"
    program = Path(target, "release", manifest()["package"]["name"])
    if not program.exists():
        print("building the jsonrpsee peer; this takes two minutes", file=sys.stderr)
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    subprocess.run([cargo, "build", "--release", "--quiet"], cwd=crate, env=environment, check=True)
    return program


def manifest() -> dict[str, Any]:
    """What the crate says of itself."""
    return tomllib.loads((_CRATE / "Cargo.toml").read_text())
