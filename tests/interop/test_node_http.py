"""Clients of Node over HTTP: fetch, json-rpc-2.0, @open-rpc/client-js."""

from __future__ import annotations

import time
from typing import Any

import httpx

from tests.interop.conftest import Play
from tests.support.clients import HttpClient
from tests.support.streaming import job, job_ids

NOT_FOUND = -32001


def test_fetch_keeps_its_connection_after_a_get(node: Play) -> None:
    seen = node("fetch", "keepsItsConnectionAfterAGet")

    assert seen == [200, 0, 200, 1, 200, 2, 200, 3, 200, 4]


def test_fetch_posts_a_batch(node: Play) -> None:
    assert node("fetch", "postsABatch") == {"status": 200, "ids": [1, 2, 3]}


def test_fetch_gets_no_body_for_a_notification(node: Play) -> None:
    assert node("fetch", "postsANotification") == {"status": 204, "text": ""}


def test_fetch_opens_many_connections_at_once(node: Play) -> None:
    assert node("fetch", "postsTogether") == list(range(50))


def test_fetch_streams_a_body(node: Play) -> None:
    assert node("fetch", "streamsABody") == {"status": 200, "id": 7}


def test_fetch_that_gives_up_a_job_take_is_handed_no_job(
    node: Play, http: httpx.Client, context: int, work: dict[str, Any]
) -> None:
    client = HttpClient(http)
    client.result("runner.create", work["runner"])
    take = {"context_id": context, "runner_id": 3, "script_types": ["Python"], "wait": 60}
    assert node("fetch", "leavesAJobTake", take=take) == "AbortError"
    time.sleep(1.0)  # nothing shows from outside when the call is given up

    client.result("flow.submit", work["submission"])

    taken = [client.result("job.take", take)["jobs"][0] for _ in range(20)]
    assert sorted(assignment["job"]["id"] for assignment in taken) == list(range(1, 21))


def test_json_rpc_2_calls(node: Play) -> None:
    assert node("json_rpc_2", "callsOverHttp") == {"code": NOT_FOUND, "contexts": True}


def test_json_rpc_2_sends_a_batch(node: Play) -> None:
    assert node("json_rpc_2", "batchesOverHttp") == [[id, NOT_FOUND] for id in (1, 2, 3)]


def test_json_rpc_2_notifies(node: Play, context: int) -> None:
    assert node("json_rpc_2", "notifiesOverHttp", job=job(context, 1), ids=job_ids(context, 1)) == 1


def test_open_rpc_calls(node: Play) -> None:
    assert node("open_rpc", "calls", transport="http") == {"code": NOT_FOUND, "contexts": True}


def test_open_rpc_sends_a_batch(node: Play) -> None:
    assert node("open_rpc", "batches", transport="http") == [1, 2, 3]


def test_open_rpc_discovers_the_document(node: Play) -> None:
    version: Any = node("open_rpc", "discovers", transport="http")

    assert version.startswith("1.")
