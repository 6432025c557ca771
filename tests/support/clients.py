"""Clients of both transports, alike to use: a message goes out as given, its reply comes back checked."""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.support.jsonrpc import check_reply, due
from tests.support.server import CoordinatorProcess

__all__ = [
    "JSON",
    "PATIENCE",
    "TRANSPORTS",
    "Call",
    "Client",
    "HttpClient",
    "WebSocketClient",
    "connected",
    "json_text",
    "plain_http",
    "request",
    "websocket",
]

Call = tuple[str, Any]
"""A method and its params."""

TRANSPORTS: Final = ("http", "ws")
JSON: Final = {"content-type": "application/json"}
PATIENCE: Final = 60.0


def request(method: str, params: Any, id: Any) -> dict[str, Any]:
    """A JSON-RPC request object."""
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def result(server: CoordinatorProcess, method: str, **params: Any) -> Any:
    """That of a call over HTTP, on a connection of its own."""
    reply = httpx.post(server.http, json=request(method, params, 1), timeout=60, verify=False).json()
    assert "error" not in reply, reply
    return reply["result"]


def json_text(content: Any) -> str:
    """As JSON, with every character as itself."""
    return json.dumps(content, ensure_ascii=False)


class Client(ABC):
    """One connection."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    @abstractmethod
    def exchange(self, message: str | bytes) -> Any:
        """Send a message as it is; its reply, parsed and checked against what JSON-RPC demands, None if none is due."""

    def reply(self, method: str, params: Any) -> dict[str, Any]:
        """The response to a call."""
        response: dict[str, Any] = self.exchange(json_text(request(method, params, next(self._ids))))
        return response

    def result(self, method: str, params: Any) -> Any:
        """The result of a call, which must have one."""
        response = self.reply(method, params)
        assert "result" in response, f"{method}: {response}"
        return response["result"]

    def error(self, method: str, params: Any) -> dict[str, Any]:
        """The error of a call, which must have one."""
        response = self.reply(method, params)
        assert "error" in response, f"{method}({params}): {response}"
        error: dict[str, Any] = response["error"]
        return error

    def batch(self, calls: Sequence[Call]) -> list[dict[str, Any]]:
        """The responses to a batch, in the order of its calls."""
        message = json_text([request(method, params, next(self._ids)) for method, params in calls])
        responses: list[dict[str, Any]] = self.exchange(message)
        return responses

    def results(self, calls: Sequence[Call]) -> list[Any]:
        """The results of a batch, each call of which must have one."""
        responses = self.batch(calls)
        assert [response for response in responses if "result" not in response] == []
        return [response["result"] for response in responses]


class HttpClient(Client):
    """A JSON-RPC client over HTTP."""

    def __init__(self, http: httpx.Client) -> None:
        super().__init__()
        self.http = http

    def exchange(self, message: str | bytes) -> Any:
        response = self.http.post("/", content=message, headers=JSON)
        if response.status_code == 204:
            assert response.content == b""
            return check_reply(message, None)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        return check_reply(message, response.content)


class WebSocketClient(Client):
    """A JSON-RPC client over WebSocket, with one message under way at a time. `str` goes as text, `bytes` as binary."""

    _NEXT: Final = "sent next"

    def __init__(self, socket: ClientConnection) -> None:
        super().__init__()
        self.socket = socket

    def exchange(self, message: str | bytes) -> Any:
        self.socket.send(message)
        if due(message) is not None:
            return check_reply(message, self.socket.recv(timeout=PATIENCE))
        # A reply to it would come before that to the next; from another context perhaps after, to fail what is next.
        later = json_text(request("actor.load", {"id": 0}, self._NEXT))
        self.socket.send(later)
        check_reply(later, self.socket.recv(timeout=PATIENCE))
        return None

    def expect_no_more(self) -> None:
        """Make sure that nothing has come that was not asked for."""
        with suppress(TimeoutError):
            raise AssertionError(f"more than is due: {self.socket.recv(timeout=0)!r}")


@contextmanager
def connected(server: CoordinatorProcess, transport: str) -> Iterator[Client]:
    """A client of this transport."""
    if transport == "http":
        with plain_http(server) as http:
            yield HttpClient(http)
    else:
        with websocket(server) as socket:
            client = WebSocketClient(socket)
            yield client
            client.expect_no_more()


def plain_http(server: CoordinatorProcess) -> httpx.Client:
    """A bare HTTP client of one connection. Without TLS it needs no certificates, which take long to load."""
    limits = httpx.Limits(max_connections=1)
    return httpx.Client(base_url=server.http, timeout=PATIENCE, limits=limits, trust_env=False, verify=False)


@contextmanager
def websocket(server: CoordinatorProcess, **options: Any) -> Iterator[ClientConnection]:
    """A bare WebSocket that takes replies of any size."""
    with connect(server.ws, proxy=None, max_size=None, **options) as socket:
        yield socket
