"""Primaries that die or step down: a replica takes over, requests wait for it and go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.storage.keys import GLOBAL
from tests.support.api import Api
from tests.support.cluster import ValkeyCluster, ask, cluster, context_in, wait_for_replica, wait_until
from tests.support.clustered import in_thread, running_flows, serving_store
from tests.support.inprocess import ws_url
from tests.support.load import loading, stored

pytestmark = pytest.mark.slow


@pytest.fixture
def six(tmp_path: Path) -> Iterator[ValkeyCluster]:
    """Three primaries with a replica each."""
    with cluster(tmp_path) as running:
        yield running


async def test_primaries_fail_over_and_requests_go_on(six: ValkeyCluster) -> None:
    contexts = [context_in(share) for share in six.shares]
    async with serving_store(six.url, isolation="prefix") as (app, clients):
        async with running_flows(ws_url(app), contexts) as flows:
            # Told to, a primary hands over to its replica, and nothing is lost.
            at = next(i for i, node in enumerate(six.primaries) if node is six.owner(contexts[0]))
            async with loading(clients, contexts) as load:
                ask(six.replicas[at], "CLUSTER", "FAILOVER")
                await in_thread(wait_until, lambda: six.owner(contexts[0]) is six.replicas[at])
                await load.goes_on()
            assert await stored(clients[1], load.acknowledged) == load.acknowledged

            # Killed, it takes with it what its replica did not have yet: first one of a context only, then GLOBAL's.
            elsewhere = next(context for context in contexts[1:] if six.owner(context) is not six.owner(GLOBAL))
            tag = {elsewhere: f"{{{elsewhere}}}", GLOBAL: "{global}"}
            async with loading(clients, contexts, may_lose=True) as load:
                for address in (elsewhere, GLOBAL):
                    primary, safe = six.owner(address), dict(load.acknowledged)
                    await in_thread(wait_for_replica, primary, f"{tag[address]}:mark")
                    primary.kill()
                    await load.goes_on()
                    await flows.go_on()
                    assert await stored(clients[1], safe) == safe
                    assert six.owner(address) is not primary

        listed = await Api(clients[1]).call("context.list", limit=1000)
        assert listed["items"] == sorted(contexts)
