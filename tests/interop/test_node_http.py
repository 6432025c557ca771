"""Clients of Node over HTTP: fetch, json-rpc-2.0, @open-rpc/client-js."""

from __future__ import annotations

from typing import Any

from tests.interop.conftest import Play
from tests.support.streaming import job, job_ids

NOT_FOUND = -32001
MAX_BODY = 1024 * 1024


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
