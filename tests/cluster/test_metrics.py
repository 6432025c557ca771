"""What the page of metrics says of a store of several servers, and of one that is not there."""

from __future__ import annotations

from typing import Final

import httpx
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.support.api import Api
from tests.support.cluster import ValkeyCluster, ask, context_in
from tests.support.clustered import serving_store
from tests.support.flows import chain, submit
from tests.support.inprocess import http_url, serving
from tests.support.server import ValkeyProcess, free_port

pytestmark = pytest.mark.slow

PREFIX: Final = {"isolation": "prefix"}


def used_memory(node: ValkeyProcess) -> int:
    lines = ask(node, "INFO", "memory").splitlines()
    return next(int(line.partition(":")[2]) for line in lines if line.startswith("used_memory:"))


async def scraped(url: str) -> dict[tuple[str, ...], float]:
    """The samples of the page: their name and the values of their labels → value."""
    async with httpx.AsyncClient(timeout=60.0) as client:
        page = (await client.get(f"{url}/metrics")).text
    return {
        (sample.name.removeprefix("herocoordinator_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


async def test_contexts_on_all_servers_of_a_cluster_are_looked_at(three: ValkeyCluster) -> None:
    used: list[int] = []
    for slots in three.shares:
        used.append(context_in(slots, used))
    async with serving_store(three.url, **PREFIX) as (app, clients):
        for context in used:
            await submit(Api(clients[1]), context, chain(1))
        shown = await scraped(http_url(app))
        while sum(of for name, of in shown.items() if name[0] == "queue_jobs") < len(used):
            await trio.sleep(0.1)
            shown = await scraped(http_url(app))

    memory = [used_memory(node) for node in three.primaries]
    assert shown["store_up",] == 1
    assert shown["store_memory_bytes",] > max(memory)
    assert shown["records", "flow"] >= len(used)
    assert shown["contexts_known",] >= len(used)


async def test_a_store_that_is_not_there_is_said_to_be_down_and_the_rest_is_shown() -> None:
    with trio.fail_after(150):
        async with serving(redis_url=f"redis://127.0.0.1:{free_port()}") as app:
            shown = await scraped(http_url(app))

    assert shown["store_up",] == 0
    assert ("records", "flow") not in shown
    assert ("calls_total",) in shown
