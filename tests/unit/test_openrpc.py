"""Where the document says that its server is."""

from __future__ import annotations

import json
import threading
from functools import cache
from typing import Any

import pytest
import trio

from coordinator.rpc import openrpc
from coordinator.rpc.openrpc import ServedDocument, document

LOCAL = ("127.0.0.1", 1), ("::1", 2)
EVERYWHERE = ("0.0.0.0", 1), ("::", 2)


def urls(text: bytes) -> tuple[str, str]:
    http, ws = json.loads(text)["servers"]
    assert (http["name"], ws["name"]) == ("http", "ws")
    return http["url"], ws["url"]


@pytest.mark.parametrize(
    ("served", "host", "expected"),
    [
        (ServedDocument(*LOCAL), None, ("http://127.0.0.1:1", "ws://[::1]:2")),
        (ServedDocument(*LOCAL), "other.example", ("http://127.0.0.1:1", "ws://[::1]:2")),
        (ServedDocument(*LOCAL, is_tls=True), None, ("https://127.0.0.1:1", "wss://[::1]:2")),
        (ServedDocument(*EVERYWHERE), None, ("http://localhost:1", "ws://localhost:2")),
        (ServedDocument(*EVERYWHERE), "h:80", ("http://h:80", "ws://h:2")),
        (ServedDocument(*EVERYWHERE), "h", ("http://h", "ws://h:2")),
        (ServedDocument(*EVERYWHERE), "[fd00::1]:1", ("http://[fd00::1]:1", "ws://[fd00::1]:2")),
        (ServedDocument(*EVERYWHERE, is_tls=True), "h:8", ("https://h:8", "wss://h:2")),
        (ServedDocument(EVERYWHERE[0], LOCAL[1]), "h", ("http://h", "ws://[::1]:2")),
        (ServedDocument(*EVERYWHERE), "user@h", ("http://localhost:1", "ws://localhost:2")),
        (ServedDocument(*EVERYWHERE), 'h"/', ("http://localhost:1", "ws://localhost:2")),
        (ServedDocument(*EVERYWHERE), "", ("http://localhost:1", "ws://localhost:2")),
        (ServedDocument(*EVERYWHERE, public_url="https://p.example/hero"), "h",
         ("https://p.example/hero", "wss://p.example/hero")),
        (ServedDocument(*LOCAL, public_url="http://p.example:8"), None, ("http://p.example:8", "ws://p.example:8")),
    ],
)  # fmt: skip
def test_servers_are_where_clients_reach_them(served: ServedDocument, host: str | None, expected: Any) -> None:
    assert urls(served.json_for(host)) == expected


def test_all_else_is_the_document() -> None:
    plain = document()

    for text in (ServedDocument(*EVERYWHERE).json_for("h"), ServedDocument(*LOCAL).json):
        assert {**json.loads(text), "servers": plain["servers"]} == json.loads(json.dumps(plain))
    assert json.loads(ServedDocument().json) == json.loads(json.dumps(plain))


def test_it_is_made_once() -> None:
    served = ServedDocument(*LOCAL)

    assert served.json_for("h") is served.json_for(None) is served.json


async def test_it_is_made_when_it_is_asked_for_and_once_and_in_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[threading.Thread] = []

    def make() -> dict[str, Any]:
        made.append(threading.current_thread())
        return document()

    monkeypatch.setattr(openrpc, "document", make)
    monkeypatch.setattr(openrpc, "_around_servers", cache(openrpc._around_servers.__wrapped__))
    served = ServedDocument(*EVERYWHERE)
    assert made == []

    fetched: list[bytes] = []

    async def fetch(host: str | None) -> None:
        fetched.append(await served.fetch(host))

    async with trio.open_nursery() as nursery:
        for host in ("h", None, "h"):
            nursery.start_soon(fetch, host)

    assert len(made) == 1
    assert made[0] is not threading.main_thread()
    expected = [("http://h", "ws://h:2"), ("http://h", "ws://h:2"), ("http://localhost:1", "ws://localhost:2")]
    assert sorted(urls(text) for text in fetched) == expected
