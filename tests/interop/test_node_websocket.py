"""Clients of Node over WebSocket: ws, rpc-websockets, @open-rpc/client-js."""

from __future__ import annotations

from tests.interop.conftest import Play
from tests.support.streaming import job, job_ids

NOT_FOUND = -32001


def test_ws_sends_calls_without_waiting(node: Play) -> None:
    assert sorted(node("ws", "callsWithoutWaiting")) == list(range(200))


def test_ws_sends_a_batch(node: Play) -> None:
    assert node("ws", "sendsABatch") == [1, 2, 3]


def test_ws_fragments_a_message(node: Play) -> None:
    assert node("ws", "fragmentsAMessage") == [1, 2]


def test_ws_offers_compression_and_goes_on_without(node: Play) -> None:
    assert node("ws", "offersCompression") == {"extensions": "", "id": 1}


def test_ws_gets_its_own_payload_back_in_a_pong(node: Play) -> None:
    assert node("ws", "pings") == "are you there"


def test_ws_closes_and_hears_its_own_code(node: Play) -> None:
    code, _ = node("ws", "closes")

    assert code == 4001


def test_rpc_websockets_calls(node: Play) -> None:
    assert node("rpc_websockets", "calls") == {"code": NOT_FOUND, "contexts": True}


def test_rpc_websockets_notifies(node: Play, context: int) -> None:
    assert node("rpc_websockets", "notifies", job=job(context, 1), ids=job_ids(context, 1)) == 1


def test_open_rpc_calls(node: Play) -> None:
    assert node("open_rpc", "calls", transport="ws") == {"code": NOT_FOUND, "contexts": True}


def test_open_rpc_sends_a_batch(node: Play) -> None:
    assert node("open_rpc", "batches", transport="ws") == [1, 2, 3]


def test_open_rpc_discovers_the_document(node: Play) -> None:
    assert node("open_rpc", "discovers", transport="ws").startswith("1.")
