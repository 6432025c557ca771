"""One cluster for all tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import ValkeyCluster, cluster


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    """Three primaries, for tests in which none dies. Shared: use contexts of your own."""
    with cluster(tmp_path_factory.mktemp("cluster"), replicas=False) as running:
        yield running
