"""What is there for operators: health, readiness, metrics."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.clients import Client, plain_http
from tests.support.records import load
from tests.support.server import CoordinatorProcess, coordinator, free_port
from tests.support.waiting import until_sync

PAGES = ("/openrpc.json", "/healthz", "/readyz", "/metrics")


@pytest.fixture(scope="module")
def storeless() -> Iterator[CoordinatorProcess]:
    """A coordinator whose store is not there."""
    with coordinator("--redis-url", f"redis://127.0.0.1:{free_port()}") as running:
        yield running


def metrics(http: httpx.Client) -> dict[str, float]:
    page = http.get("/metrics")
    assert page.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
        if not sample.labels
    }


def test_a_running_coordinator_is_healthy_and_ready(http: httpx.Client) -> None:
    health, ready = http.get("/healthz"), http.get("/readyz")

    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


@pytest.mark.slow
def test_without_its_store_it_is_healthy_but_not_ready_and_says_why(storeless: CoordinatorProcess) -> None:
    with plain_http(storeless) as http:
        health, ready = http.get("/healthz"), http.get("/readyz")

    assert (health.status_code, ready.status_code) == (200, 503)
    assert ready.json()["status"] == "not ready"
    assert ready.json()["reason"] != ""


@pytest.mark.parametrize("calls", [1, 3])
def test_calls_are_counted_each_of_a_batch(http: httpx.Client, client: Client, context: int, calls: int) -> None:
    before = metrics(http)["herocoordinator_calls_total"]

    client.batch([load("job", context, 1)] * calls)

    assert metrics(http)["herocoordinator_calls_total"] == before + calls


def test_once_all_is_answered_nothing_is_pending(http: httpx.Client, client: Client, context: int) -> None:
    client.error(*load("job", context, 1))

    assert metrics(http)["herocoordinator_contexts_active"] >= 1
    # What a client of an earlier test left behind, and what the coordinator does by itself, may be there for a moment.
    until_sync(lambda: metrics(http)["herocoordinator_calls_pending"] == 0)


@pytest.mark.parametrize("page", PAGES)
def test_head_is_get_without_the_body(http: httpx.Client, page: str) -> None:
    head, get = http.head(page), http.get(page)

    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE"])
def test_pages_are_only_to_be_read(http: httpx.Client, page: str, verb: str) -> None:
    refused = http.request(verb, page)

    assert refused.status_code == 405
    assert refused.headers["allow"] == "GET, HEAD, OPTIONS"
