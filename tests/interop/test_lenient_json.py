"""What JSON-RPC leaves open, and strangers do: nothing of it spoils more than it must."""

from __future__ import annotations

import httpx

from tests.interop.conftest import Play
from tests.interop.posting import CALL, NOT_FOUND, answered
from tests.support.clients import JSON
from tests.support.streaming import job


def test_a_byte_order_mark_before_a_body_is_skipped(http: httpx.Client) -> None:
    assert answered(http.post("/", content=b"\xef\xbb\xbf" + CALL, headers=JSON).json())


def test_params_of_null_are_no_params(http: httpx.Client) -> None:
    listed = http.post("/", json={"jsonrpc": "2.0", "id": 1, "method": "context.list", "params": None}).json()

    assert "items" in listed["result"]


def test_half_a_character_of_javascript_spoils_only_its_own_call(node: Play, context: int) -> None:
    (spoilt, code), other = node("fetch", "sendsHalfACharacter", job=job(context, 1))

    assert code is not None
    assert spoilt in (1, None)
    assert other == [2, NOT_FOUND]
