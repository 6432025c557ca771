"""Coordinators that speak TLS, of one process and of several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import CoordinatorProcess, coordinator
from tests.support.tls import Files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module", params=["1", "2"], ids=lambda workers: f"workers-{workers}")
def secure(
    request: pytest.FixtureRequest, files: Files, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CoordinatorProcess]:
    """One or two workers, without client certificates."""
    data = str(tmp_path_factory.mktemp("data"))
    with coordinator("--workers", request.param, "--data-dir", data, *files.flags) as server:
        yield server


@pytest.fixture(params=["1", "2"], ids=lambda workers: f"workers-{workers}")
def own(request: pytest.FixtureRequest, files: Files, tmp_path: Path) -> Iterator[CoordinatorProcess]:
    """The same for one test alone."""
    with coordinator("--workers", request.param, "--data-dir", str(tmp_path), *files.flags) as server:
        yield server
