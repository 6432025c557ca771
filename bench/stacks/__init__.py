"""The coordinator's `job.create` and `job.load` as they would be written on other stacks: FastAPI and Fastify.

Each is a program that takes the socket of a Valkey, prints its port as its first line and serves JSON-RPC, single
calls and batches, over POST / and over a WebSocket on the same port.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from bench import node

__all__ = ["NAMES", "command", "missing"]

NAMES: Final = ("fastapi", "fastify")


def missing(name: str) -> str | None:
    """What would have to be installed for this one; None if nothing."""
    if name == "fastapi":
        return None if find_spec("fastapi") and find_spec("uvicorn") else "the extra `peers`"
    if name == "fastify":
        return None if node.is_there() else "Node with npm"
    return None


def command(name: str, store: Path) -> list[str]:
    """How to start it; installs what Fastify needs the first time."""
    if name == "fastapi":
        return [sys.executable, "-m", "bench.stacks.fastapi_app", str(store)]
    script = node.installed(Path(__file__).with_name("fastify_app.mjs"))
    return ["node", str(script), str(store), str(Path(__file__).with_name("upsert.lua"))]
