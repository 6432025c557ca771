"""Clients of a coordinator that has its callers log in, written without the coordinator's own code: sockets, JSON, and
the signatures that SECURITY.md describes."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.sync.client import ClientConnection, connect

from tests.support.server import CoordinatorProcess

PATIENCE = 30.0


class Key:
    """A key pair."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        raw = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.raw = raw
        self.public = "ed25519:" + base64.b64encode(raw).decode()

    def sign(self, *parts: str) -> str:
        """The signature of these. A login's parts: login, server, host, principal, nonce, expires_at; a rotation has
        the old and new key as well."""
        text = b""
        for part in ("herocoordinator.auth.v1", *parts):
            encoded = part.encode()
            text += len(encoded).to_bytes(4, "big") + encoded
        return base64.b64encode(self.private.sign(text)).decode()

    def login(self, principal: str, challenge: dict[str, Any], host: str) -> dict[str, Any]:
        """The params of auth.login."""
        told = challenge["server"], host, principal, challenge["nonce"], str(challenge["expires_at"])
        return {"principal": principal, "nonce": challenge["nonce"], "signature": self.sign("login", *told)}


class Caller:
    """Somebody who calls over HTTP, or over a WebSocket that is opened for them.

    Args:
        token: shown with each request, or with the handshake.
        url: where it calls, if not where the transport has a port of its own.
        secure: for TLS.
    """

    def __init__(
        self,
        server: CoordinatorProcess,
        transport: str,
        token: str | None = None,
        more_headers: Mapping[str, str] | None = None,
        *,
        url: str | None = None,
        secure: ssl.SSLContext | None = None,
    ) -> None:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        headers |= more_headers or {}
        self.url = url or getattr(server, transport)
        self.host = urlsplit(self.url).netloc
        self.notes: list[Any] = []
        self.http: httpx.Client | None = None
        self.ws: ClientConnection | None = None
        if transport == "http":
            self.http = httpx.Client(
                base_url=self.url, headers=headers, timeout=PATIENCE, verify=secure or self.url.startswith("https")
            )
        else:
            self._opened = connect(self.url, additional_headers=headers, open_timeout=PATIENCE, ssl=secure)
            self.ws = self._opened.__enter__()

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.http is not None:
            self.http.close()
        if self.ws is not None:
            self.ws.close()

    def send(self, message: Any) -> Any:
        """The reply to a message."""
        if self.http is not None:
            return self.post(message).json()
        assert self.ws is not None
        self.ws.send(json.dumps(message))
        return self.next_reply()

    def post(self, message: Any) -> httpx.Response:
        assert self.http is not None
        return self.http.post("/", json=message)

    def next_reply(self, timeout: float = PATIENCE) -> Any:
        """The next message that is no notification."""
        while True:
            assert self.ws is not None
            message = json.loads(self.ws.recv(timeout))
            if isinstance(message, dict) and "method" in message:
                self.notes.append(message)
            else:
                return message

    def note(self, method: str, timeout: float = PATIENCE) -> Any:
        """The params of the next notification of this method."""
        for at, message in enumerate(self.notes):
            if message["method"] == method:
                return self.notes.pop(at)["params"]
        while True:
            assert self.ws is not None
            message = json.loads(self.ws.recv(timeout))
            if message.get("method") == method:
                return message["params"]

    def call(self, method: str, params: Any) -> Any:
        """The reply to a call."""
        return self.send({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})

    def result(self, method: str, params: Any) -> Any:
        reply = self.call(method, params)
        assert "result" in reply, reply
        return reply["result"]

    def error(self, method: str, params: Any) -> Any:
        reply = self.call(method, params)
        assert "error" in reply, reply
        return reply["error"]

    def code(self, method: str, params: Any) -> int:
        code: int = self.error(method, params)["code"]
        return code

    def log_in(self, key: Key, principal: str) -> Any:
        """The result of auth.login."""
        return self.result("auth.login", key.login(principal, self.result("auth.challenge", {}), self.host))


@contextlib.contextmanager
def caller(server: CoordinatorProcess, transport: str, token: str | None = None) -> Iterator[Caller]:
    one = Caller(server, transport, token)
    try:
        yield one
    finally:
        one.close()


def operator_token(directory: Path) -> str:
    return (directory / "operator.token").read_text().split()[0]


def token_of_admin(operator: Caller, actor_id: int, context_id: int) -> str:
    """A token of a new actor, who is the admin of a new context."""
    operator.result("actor.create", actor(actor_id, Key().public))
    operator.result("context.create", context(context_id, admins=[actor_id], executors=[], readers=[]))
    token: str = operator.result("token.create", {"label": "x", "principal": f"actor:{actor_id}"})["token"]
    return token


def actor(id: int, pubkey: str = "none") -> dict[str, Any]:
    return {"actor": {"id": id, "pubkey": pubkey, "address": []}}


def context(id: int, *, admins: list[int], executors: list[int], readers: list[int]) -> dict[str, Any]:
    return {"context": {"id": id, "admins": admins, "executors": executors, "readers": readers}}


def runner(context_id: int, id: int, pubkey: str = "none") -> dict[str, Any]:
    record = {"id": id, "pubkey": pubkey, "address": "192.0.2.3", "topic": f"runner{id}", "local": False}
    return {"context_id": context_id, "runner": record}


def job(context_id: int, caller_id: int, id: int, **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "caller_id": caller_id,
        "context_id": context_id,
        "script": "1",
        "script_type": "Python",
        "timeout": 60,
        "retries": 0,
        "env_vars": {"SECRET": f"of {caller_id}"},
        "prerequisites": [],
        "depends": [],
        **more,
    }


def flow(context_id: int, caller_id: int, id: int, jobs: list[int]) -> dict[str, Any]:
    env_vars = {"SECRET": f"of {caller_id}"}
    return {"id": id, "caller_id": caller_id, "context_id": context_id, "jobs": jobs, "env_vars": env_vars}


def message(context_id: int, caller_id: int, id: int, jobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": id,
        "caller_id": caller_id,
        "context_id": context_id,
        "message": "m",
        "message_type": "Python",
        "message_format_type": "Text",
        "timeout": 0,
        "timeout_ack": 0,
        "timeout_result": 0,
        "job": jobs,
    }
