"""The embedded store takes little for a record, and its process is started with what makes commands cheaper."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from coordinator.storage.connection import Connection
from coordinator.storage.embedded import EmbeddedValkey
from coordinator.storage.valkey import allocator

pytestmark = pytest.mark.anyio


async def test_a_record_stays_small_when_its_attempt_is_noted(tmp_path: Path) -> None:
    noted = "1 " + "t" * 30 + " 1 60000 1795806075492 0 " + "s" * 32
    async with EmbeddedValkey(tmp_path, "everysec") as running:
        connection = Connection(await running.endpoint.open())
        try:
            replies: list[object] = []
            await connection.exchange(
                [("HSET", "job:7:1", "status", "Started", "x_attempt", noted), ("OBJECT", "ENCODING", "job:7:1")],
                replies,
            )
        finally:
            await connection.aclose()
        environment = await trio.Path(f"/proc/{running.pid}/environ").read_bytes()

    assert replies[1] == b"listpack"
    assert b"GLIBC_TUNABLES=" + allocator({})["GLIBC_TUNABLES"].encode() in environment.split(b"\0")


def test_what_the_environment_says_of_the_allocator_comes_last_for_that_counts() -> None:
    given = "glibc.malloc.tcache_count=9"

    assert allocator({"GLIBC_TUNABLES": given})["GLIBC_TUNABLES"].endswith(f":{given}")
    assert ":" not in allocator({})["GLIBC_TUNABLES"]
