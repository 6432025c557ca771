"""While the embedded Valkey starts, nobody who looks after it is in its way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio

from coordinator.storage import embedded
from coordinator.storage.connection import Connection, Reply
from coordinator.storage.embedded import EmbeddedValkey
from coordinator.storage.faults import TRANSPORT_ERRORS, StoreUnavailable

pytestmark = pytest.mark.anyio


async def test_a_valkey_that_is_starting_is_not_taken_for_one_whose_socket_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no socket yet. To end it then would go on for ever."""
    monkeypatch.setattr(embedded, "_LOOK_EVERY", 0.0)  # so one look falls in between for certain
    monkeypatch.setattr(embedded, "_LOOK_CLOSER_EVERY", 0.0)
    with trio.fail_after(60):
        async with EmbeddedValkey(tmp_path, "everysec") as running, trio.open_nursery() as nursery:
            nursery.start_soon(running.supervise)
            for _ in range(3):
                first = running.pid
                assert first is not None
                os.kill(first, signal.SIGKILL)
                while running.pid in (None, first) or not await _answers(running):
                    await trio.sleep(0.01)
                second = running.pid
                await trio.sleep(0.1)
                assert running.pid == second
            nursery.cancel_scope.cancel()


async def _answers(running: EmbeddedValkey) -> bool:
    try:
        connection = Connection(await running.endpoint.open())
    except (StoreUnavailable, *TRANSPORT_ERRORS):
        return False
    replies: list[Reply] = []
    try:
        await connection.exchange([("PING",)], replies)
    except StoreUnavailable:
        return False
    finally:
        await connection.aclose()
    return replies == [b"PONG"]
