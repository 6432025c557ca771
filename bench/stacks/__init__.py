"""The coordinator's `job.create` and `job.load` written on other stacks.

Each is a program that takes the socket of a Valkey, prints its port as its first line and serves JSON-RPC, single
calls and batches, over POST / and over a WebSocket on the same port; bare uvicorn and picows over one of them only.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from bench import cargo, node

__all__ = ["NAMES", "command", "missing", "schemes"]

_PYTHON: Final = {"fastapi": "fastapi_app", "uvicorn": "uvicorn_app", "picows-jobs": "picows_app"}  # name → module
NAMES: Final = (*_PYTHON, "fastify", "jsonrpsee")


def missing(name: str) -> str | None:
    """What would have to be installed for this one; None if nothing."""
    if name in _PYTHON:
        return None if find_spec("fastapi") and find_spec("uvicorn") else "the extra `peers`"
    if name == "fastify":
        return None if node.is_there() else "Node with npm"
    if name == "jsonrpsee":
        return None if cargo.is_there() else "cargo"
    return None


def command(name: str, store: Path) -> list[str]:
    """How to start it; installs what Fastify needs, or builds what is in Rust, the first time."""
    if name in _PYTHON:
        return [sys.executable, "-m", f"bench.stacks.{_PYTHON[name]}", str(store)]
    upsert = str(Path(__file__).with_name("upsert.lua"))
    if name == "jsonrpsee":
        return [str(cargo.built()), str(store), upsert]
    return ["node", str(node.installed(Path(__file__).with_name("fastify_app.mjs"))), str(store), upsert]


def schemes(name: str) -> tuple[str, ...]:
    """What it speaks."""
    only = {"uvicorn": ("http",), "picows-jobs": ("ws",)}
    return only.get(name, ("http", "ws"))
