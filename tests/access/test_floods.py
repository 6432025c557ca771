"""A flood of those who are not let in costs the others little."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from tests.access import callers
from tests.access.callers import Caller, Key, caller
from tests.support.server import CoordinatorProcess, coordinator

pytestmark = pytest.mark.slow

CONNECTIONS = 50
SECONDS = 3.0
A_SECOND = 200  # of those who fail are read, by one process
LOAD = {"jsonrpc": "2.0", "id": 1, "method": "context.load", "params": {"id": 1}}


def _bad_token(server: CoordinatorProcess) -> Callable[[], int]:
    """Over HTTP, another one with each request."""
    one = Caller(server, "http")

    def send() -> int:
        assert one.http is not None
        shown = {"authorization": f"Bearer hc_{secrets.token_urlsafe(32)}"}
        assert one.http.post("/", json=LOAD, headers=shown).status_code == 401
        return 1

    return send


def _bad_token_login(server: CoordinatorProcess) -> Callable[[], int]:
    one = Caller(server, "ws")
    return lambda: one.code("auth.login", {"token": f"hc_{secrets.token_urlsafe(32)}"}) and 1


def _bad_signature(server: CoordinatorProcess) -> Callable[[], int]:
    one = Caller(server, "ws")

    def send() -> int:
        signature = base64.b64encode(secrets.token_bytes(64)).decode()
        nonce = one.result("auth.challenge", {})["nonce"]
        one.code("auth.login", {"principal": "actor:1", "nonce": nonce, "signature": signature})
        return 1

    return send


def _no_login(server: CoordinatorProcess) -> Callable[[], int]:
    one = Caller(server, "ws")
    return lambda: one.code("context.load", {"id": 1}) and 1


@pytest.mark.parametrize("attack", [_bad_token, _bad_token_login, _bad_signature, _no_login])
def test_who_is_not_let_in_is_not_read_again_at_once(
    tmp_path: Path, attack: Callable[[CoordinatorProcess], Callable[[], int]]
) -> None:
    with coordinator("--data-dir", str(tmp_path), "--auth", "keys") as server:
        with caller(server, "http", callers.operator_token(tmp_path)) as operator:
            operator.result("actor.create", callers.actor(1, Key().public))
            operator.result("context.create", callers.context(1, admins=[1], executors=[], readers=[]))
            token = operator.result("token.create", {"label": "victim", "principal": "actor:1"})["token"]
        with caller(server, "ws", token) as victim:
            sends = [attack(server) for _ in range(CONNECTIONS)]
            rounds = [_round(victim, sends) for _ in range(3)]
    for sent, took, ratio in rounds:
        print(f"{sent / took:.0f} a second, the victim's median × {ratio:.2f}")
        assert sent <= A_SECOND * took + 2 * CONNECTIONS
    assert min(ratio for _, _, ratio in rounds) <= 2


def _round(victim: Caller, sends: list[Callable[[], int]]) -> tuple[int, float, float]:
    """How many were sent in how long, and how much longer than before it the victim waited meanwhile."""
    alone = median(_waits(victim, SECONDS / 2))
    began, ends = time.monotonic(), time.monotonic() + SECONDS
    sent = [0] * len(sends)

    def flood(number: int) -> None:
        while time.monotonic() < ends:
            sent[number] += sends[number]() != 0

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(len(sends))]
    for thread in threads:
        thread.start()
    beside = median(_waits(victim, SECONDS))
    for thread in threads:
        thread.join()
    return sum(sent), time.monotonic() - began, beside / alone


def _waits(victim: Caller, seconds: float) -> list[float]:
    """How long each call takes; one is made every 10 ms, and succeeds."""
    found, ends = [], time.monotonic() + seconds
    assert victim.ws is not None
    while time.monotonic() < ends:
        began = time.monotonic()
        victim.ws.send(json.dumps(LOAD))
        assert "result" in victim.next_reply()
        found.append(time.monotonic() - began)
        time.sleep(max(0.0, began + 0.01 - time.monotonic()))
    return found
