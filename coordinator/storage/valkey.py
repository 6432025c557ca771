"""What an embedded Valkey is started with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["STORED_AS", "allocator", "arguments"]

STORED_AS: Final = {
    "zset-max-listpack-entries": 32,  # timers come and go: of more, looking through all costs more than a tree
    # A record is as small as it can be, unless one of its values is large. With 64, the default, what is noted of an
    # attempt is too large, and each job that is taken would be written anew.
    "hash-max-listpack-value": 1024,
    "hash-max-listpack-entries": 128,
}
"""How Valkey is to store what we give it."""

_DATABASES: Final = 1_048_576
_OUTPUT_BYTES: Final = 256 * 1024 * 1024
_QUERY_BYTES: Final = 256 * 1024 * 1024


def arguments(data_dir: Path, socket: Path, max_clients: int, max_memory: int) -> list[str]:
    """Those of its command line."""
    options = {
        "port": 0,
        "unixsocket": socket,
        "unixsocketperm": 700,
        "dir": data_dir,
        "databases": _DATABASES,
        "hz": 1,  # each run of its cron looks at every database, which takes 5 ms
        "appendonly": "yes",
        "appendfsync": "always",  # see EmbeddedValkey._admit
        "min-replicas-to-write": 1,  # none: see EmbeddedValkey._admit
        "save": "",
        "daemonize": "no",
        "maxclients": max_clients,
        "maxmemory": max_memory,
        "maxmemory-policy": "noeviction",
        **STORED_AS,
        # What a connection may make it hold of replies not read yet, and of a command that is not whole yet. Ours
        # never ask for so much; these bound what a fault costs.
        "client-output-buffer-limit": f"normal {_OUTPUT_BYTES} {_OUTPUT_BYTES // 4} 60",
        "client-query-buffer-limit": _QUERY_BYTES,
    }
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def allocator(environment: Mapping[str, str]) -> dict[str, str]:
    """What makes the C library's malloc, which this Valkey uses, keep more of what a command has freed for the next: of
    each small size so many pieces instead of 7. Another C library ignores it."""
    kept = "glibc.malloc.tcache_count=2000"  # 66 MB at the most
    return {"GLIBC_TUNABLES": ":".join(filter(None, (kept, environment.get("GLIBC_TUNABLES", ""))))}
