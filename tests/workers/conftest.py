"""Coordinators of two workers, on either kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator


@pytest.fixture(params=["embedded", "external"])
def two(request: pytest.FixtureRequest, tmp_path: Path, store: ValkeyProcess) -> Iterator[CoordinatorProcess]:
    """Two workers, on an embedded Valkey and on another server."""
    where = ("--data-dir", str(tmp_path)) if request.param == "embedded" else ("--redis-url", store.url)
    with coordinator("--workers", "2", *where) as server:
        yield server


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[CoordinatorProcess]:
    """Two workers on an embedded Valkey, whose data is in `tmp_path`."""
    with coordinator("--workers", "2", "--data-dir", str(tmp_path)) as server:
        yield server
