"""A master that Sentinels name: it is found, and found again after each fail-over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coordinator.storage.faults import StoreMisconfigured
from tests.support.cluster import wait_for_replica
from tests.support.clustered import in_thread, running_flows, serving_store
from tests.support.inprocess import serving, ws_url
from tests.support.load import loading, stored
from tests.support.sentinel import PASSWORD, Watched, watched

pytestmark = pytest.mark.slow

CONTEXTS = [1, 2, 3]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("sentinel")) as running:
        yield running


async def test_a_service_nobody_knows_is_refused(pair: Watched) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with serving(redis_url=pair.url.replace("/main", "/other")):
            pass
    (fault,) = caught.value.exceptions
    assert isinstance(fault, StoreMisconfigured)
    assert "'other'" in str(fault)


async def test_requests_go_on_after_each_fail_over(pair: Watched) -> None:
    async with serving_store(pair.url) as (app, clients), running_flows(ws_url(app), CONTEXTS) as flows:
        # Told to, the master hands over to its replica, becomes one itself, and nothing is lost.
        first = pair.master
        async with loading(clients, CONTEXTS) as load:
            await in_thread(pair.fail_over)
            await load.goes_on()
        await flows.go_on()
        assert pair.master is not first
        assert await stored(clients[1], load.acknowledged) == load.acknowledged

        # Killed, it takes with it what its replica did not have yet.
        async with loading(clients, CONTEXTS, may_lose=True) as load:
            second, safe = pair.master, dict(load.acknowledged)
            await in_thread(wait_for_replica, second, "mark", PASSWORD)
            second.kill()
            await load.goes_on()
            await flows.go_on()
        assert pair.master is first
        assert await stored(clients[1], safe) == safe
