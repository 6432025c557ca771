"""Metrics of limits: how often each has refused, and how many it holds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from coordinator.measures import HELD_COUNTED, LIMITS, Held
from coordinator.settings import Settings
from tests.support.server import CoordinatorProcess, coordinator
from tests.workers.test_metrics import Scrape, call, submission

slow = pytest.mark.slow

LOAD = {"jsonrpc": "2.0", "id": 1, "method": "flow.load", "params": {"context_id": 3, "id": 404}}
RUNNER = {"id": 5, "pubkey": "k", "address": "127.0.0.1", "topic": "t", "local": True}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    limits = ("--caller-calls", "50", "--context-jobs", "2", "--max-subscriptions", "1")
    with coordinator(*limits, "--data-dir", str(tmp_path_factory.mktemp("limits"))) as server:
        yield server


def refusals(scrape: Scrape) -> dict[str, float]:
    return {limit: count for limit in LIMITS if (count := scrape("limit_refusals_total", limit=limit))}


def held(scrape: Scrape) -> dict[str, float]:
    return {limit: count for limit in LIMITS if (count := scrape("limits_held", limit=limit))}


@slow
def test_each_limit_counts_what_it_refuses_and_whom_it_holds(strict: CoordinatorProcess) -> None:
    scrape = Scrape(strict)
    assert {labels["limit"] for labels in scrape.labels("limits_held")} == {*LIMITS}
    assert (refusals(scrape), held(scrape)) == ({}, {})

    for context in (3, 4, 3):
        refused = call(strict, "flow.submit", **submission(context, 1, 2, 3))
        assert refused["error"]["data"]["setting"] == "context_jobs"
    call(strict, "runner.create", context_id=3, runner=RUNNER)
    take = {"context_id": 3, "runner_id": 5, "script_types": ["Python"], "wait": 2}
    message = {"jsonrpc": "2.0", "method": "job.take", "params": take}
    replies = httpx.post(strict.http, json=[{**message, "id": 1}, {**message, "id": 2}], timeout=60).json()
    assert [reply.get("error", {}).get("data", {}).get("setting") for reply in replies].count("max_subscriptions") == 1

    scrape = Scrape(strict)
    assert refusals(scrape) == {"context_jobs": 3, "max_subscriptions": 1}
    assert held(scrape) == {"context_jobs": 2, "max_subscriptions": 1}

    httpx.post(strict.http, json=[LOAD] * 900, timeout=60)  # which is more than it may, and is paid for later
    over: Any = httpx.post(strict.http, json=LOAD, timeout=60).json()["error"]["data"]
    scrape = Scrape(strict)
    assert over["setting"] == "caller_calls"
    assert refusals(scrape)["caller_calls"] == held(scrape)["caller_calls"] == 1
    assert scrape("messages_limited_total") == 1


def test_limits_are_settings_but_one() -> None:
    assert {*LIMITS} - Settings.model_fields.keys() == {"logins"}


def test_who_may_try_again_is_not_held_and_a_flood_is_counted_up_to_a_bound() -> None:
    some = Held()
    some.add("caller_calls", "long", 60.0)
    some.add("caller_calls", "short", 0.0)
    some.add("caller_bytes", "long", 60.0)
    time.sleep(0.001)
    assert (some.count("caller_calls"), some.count("caller_bytes"), some.count("logins")) == (1, 1, 0)

    for at in range(2 * HELD_COUNTED):
        some.add("logins", at, 60.0)
    assert some.count("logins") == HELD_COUNTED

    for at in range(HELD_COUNTED):
        some.add("logins", at, 0.0)
    time.sleep(0.001)
    some.add("logins", "next", 60.0)
    assert some.count("logins") == 1
