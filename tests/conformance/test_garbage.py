"""Whatever is sent, every call is answered once and properly, and the server goes on serving without a complaint."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from tests.support.clients import TRANSPORTS, Client, connected, websocket
from tests.support.garbage import any_json, damaged_messages, mutated_messages
from tests.support.records import load
from tests.support.server import CoordinatorProcess

EXAMPLES: Final = 150
RAW_EXAMPLES: Final = 60

several_times = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
a_few_times = settings(several_times, max_examples=RAW_EXAMPLES)


@pytest.fixture(autouse=True)
def unharmed(server: CoordinatorProcess) -> Iterator[None]:
    """The server still runs after the test, and has logged no error."""
    before = len(server.logs)
    yield
    assert server.process.poll() is None
    assert [entry for entry in server.logs[before:] if entry.get("level") in ("error", "critical")] == []


def is_served(client: Client) -> bool:
    return client.reply(*load("actor", 0, 0)).keys() == {"jsonrpc", "id", "error"}


@several_times
@given(message=st.binary())
def test_random_bytes_are_answered(client: Client, message: bytes) -> None:
    client.exchange(message)


@several_times
@given(message=st.text())
def test_random_text_is_answered(client: Client, message: str) -> None:
    client.exchange(message)


@pytest.mark.slow
@several_times
@given(content=any_json())
def test_random_json_is_answered(client: Client, content: Any) -> None:
    client.exchange(json.dumps(content))


@pytest.mark.slow
@several_times
@given(message=mutated_messages())
def test_requests_with_parts_gone_wrong_are_answered(client: Client, message: str) -> None:
    client.exchange(message)


@several_times
@given(message=damaged_messages())
def test_requests_with_bytes_gone_wrong_are_answered(client: Client, message: bytes) -> None:
    client.exchange(message)


@several_times
@given(params=any_json(), method=st.sampled_from(["job.create", "message.create", "flow.dag", "actor.load"]))
def test_random_params_are_answered(client: Client, method: str, params: Any) -> None:
    client.exchange(json.dumps([{"jsonrpc": "2.0", "id": 1, "method": method, "params": params}]))


@pytest.mark.parametrize("transport", TRANSPORTS)
@a_few_times
@given(data=st.binary(max_size=500))
def test_bytes_of_no_protocol_harm_nobody(server: CoordinatorProcess, transport: str, data: bytes) -> None:
    url = urlsplit(getattr(server, transport))

    with socket.create_connection((url.hostname, url.port)) as connection:
        connection.sendall(data)

    with connected(server, transport) as client:
        assert is_served(client)


@a_few_times
@given(data=st.binary(min_size=1, max_size=500))
def test_bytes_that_are_no_frames_harm_nobody_else(server: CoordinatorProcess, data: bytes) -> None:
    with connected(server, "ws") as bystander:
        with suppress(ConnectionClosed), websocket(server, close_timeout=0) as ws:
            ws.socket.sendall(data)

        assert is_served(bystander)


@a_few_times
@given(message=damaged_messages())
def test_text_frames_that_are_damaged_harm_nobody_else(server: CoordinatorProcess, message: bytes) -> None:
    with connected(server, "ws") as bystander:
        with suppress(ConnectionClosed), websocket(server, close_timeout=0) as ws:
            ws.send(message, text=True)

        assert is_served(bystander)
