"""FLUSHALL under a running coordinator: what is written from then on is listed, by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.server import coordinator, valkey
from tests.support.streaming import StreamingClient, job, streaming

pytestmark = pytest.mark.slow


async def listed(client: StreamingClient) -> list[int]:
    page: dict[str, Any] = await client.call("context.list", {})
    items: list[int] = page["items"]
    return items


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("isolation", ["index", "prefix"])
async def test_contexts_that_are_written_to_are_listed_again(tmp_path: Path, workers: str, isolation: str) -> None:
    with (
        valkey(tmp_path) as store,
        coordinator("--redis-url", store.url, "--workers", workers, "--isolation", isolation) as server,
    ):
        async with streaming(server.ws) as client:
            for context in (2, 3):
                await client.call("job.create", job(context, 1))
            assert await listed(client) == [2, 3]

            store.client().flushall()
            await client.call("job.create", job(3, 1))

            with trio.fail_after(60):
                while 3 not in await listed(client):
                    await trio.sleep(0.1)
