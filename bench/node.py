"""Peers that are Node programs: their packages, pinned, from npm."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["RESTATE", "installed", "is_there", "versions"]

PACKAGES: Final = {
    "@fastify/websocket": "11.3.6",
    "ajv": "8.20.0",
    "bullmq": "6.7.0",
    "fastify": "5.12.8",
    "ioredis": "5.11.1",
}
RESTATE: Final = {  # apart, for its server is 220 MB
    "@restatedev/restate-sdk": "1.17.2",
    "@restatedev/restate-server": "1.7.12",
}
_DIRECTORY: Final = Path(__file__).parent / "results" / "node"


def is_there() -> bool:
    """Whether Node and npm are on this machine."""
    return bool(shutil.which("node") and shutil.which("npm"))


def versions() -> dict[str, str]:
    """Of Node and the packages; empty without Node."""
    if not is_there():
        return {}
    shown = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return {"node": shown.strip().removeprefix("v"), **PACKAGES}


def installed(script: Path, packages: Mapping[str, str] = PACKAGES) -> Path:
    """A copy of `script` beside `packages`, where Node looks for them; installs these if they are not there."""
    directory = _DIRECTORY if packages is PACKAGES else _DIRECTORY / script.stem
    directory.mkdir(parents=True, exist_ok=True)
    wanted = json.dumps({"private": True, "dependencies": packages})
    stamp = directory / "installed.json"
    if not stamp.exists() or stamp.read_text() != wanted:
        (directory / "package.json").write_text(wanted)
        subprocess.run(["npm", "install", "--silent", "--no-fund", "--no-audit"], cwd=directory, check=True)
        stamp.write_text(wanted)
    copy = directory / script.name
    copy.write_text(script.read_text())
    return copy
