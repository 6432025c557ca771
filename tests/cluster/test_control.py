"""What people decide about what runs, on a cluster: in a context of each node."""

from __future__ import annotations

import pytest

from tests.cluster.test_cluster import contexts_of
from tests.support.cluster import ValkeyCluster
from tests.support.deciding import decide
from tests.support.server import coordinator

pytestmark = pytest.mark.slow


async def test_what_is_decided_holds_on_each_node(three: ValkeyCluster) -> None:
    options = ("--redis-url", three.url, "--isolation", "prefix")
    with coordinator(*options) as here, coordinator(*options) as there:
        for node in three.primaries:
            (context,) = contexts_of(three, node)
            await decide(here.ws, there.ws, context)
            assert list(node.client().scan_iter(f"{{{context}}}:[^w]*")) == []  # but who writes, for a while
