"""Addresses from which logins fail, and answers that are computed in a thread, without a server."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from pydantic_core import from_json, to_json

from coordinator.actors.pipeline import Together
from coordinator.actors.request import Answerable, Compute, Outcome
from coordinator.engine.places import Places
from coordinator.errors import Overloaded
from coordinator.rpc.access import restricted
from coordinator.rpc.access.failures import ADDRESSES, EVERY, FREE, KEPT_FOR, WAITING, Failures
from tests.unit.test_places import client

pytestmark = pytest.mark.usefixtures("autojump")
THERE = "192.0.2.1"


async def _took(failures: Failures, address: str, messages: int) -> float:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(messages):
            nursery.start_soon(failures.turn, address)
    return trio.current_time() - began


async def test_a_few_failures_cost_nothing_and_more_are_read_at_a_rate() -> None:
    failures = Failures()
    failures.add(THERE, FREE)
    assert await _took(failures, THERE, 50) == 0
    failures.add(THERE, 1)
    assert await _took(failures, THERE, 51) == pytest.approx(50 * EVERY)
    assert await _took(failures, "192.0.2.2", 50) == 0
    await trio.sleep(1)
    assert await _took(failures, THERE, 50) == 0


async def test_so_many_wait_and_are_forgiven_in_the_end() -> None:
    failures = Failures()
    failures.add(THERE, 10**6)
    refused = 0

    async def turn() -> None:
        nonlocal refused
        try:
            await failures.turn(THERE)
        except Overloaded as error:
            refused += error.data["retry_after"] > 0

    async with trio.open_nursery() as nursery:
        for _ in range(3 * WAITING):
            nursery.start_soon(turn)
    assert refused == 2 * WAITING
    await trio.sleep(KEPT_FOR)
    assert await _took(failures, THERE, 50) == 0


async def test_the_addresses_that_failed_longest_ago_are_forgotten() -> None:
    failures = Failures()
    failures.add(THERE, 100)
    failures.add("", 100)
    for number in range(ADDRESSES - 1):
        failures.add(f"2001:db8:0:{number:x}::/64", 100)
    assert await _took(failures, THERE, 3) > 0
    failures.add("198.51.100.1", 100)
    assert await _took(failures, THERE, 3) == 0
    assert await _took(failures, "", 3) == 0


# -- answers


def _operation(answerables: list[Answerable]) -> tuple[list[Outcome], list[Compute]]:
    """The outcomes of these, and what was computed."""
    outcomes: list[Outcome] = []
    computed: list[Compute] = []
    operation = Together(answerables, 1, outcomes)
    step: Any
    sent: Any = [b"reply"] * len(answerables)
    while True:
        try:
            step = operation.send(sent)
        except StopIteration:
            return outcomes, computed
        computed.append(step)
        sent = step.run()


def _answer(reply: Any, asked: Any) -> Any:
    return asked


def _fails() -> bytes:
    raise ValueError("this one's fault")


async def test_what_is_computed_of_one_of_several_concerns_no_other() -> None:
    read = ("GET", "k")
    outcomes, computed = _operation(
        [(read, _answer, asked) for asked in (b"1", Compute(lambda: b"2"), Compute(_fails), b"4")]
    )
    assert len(computed) == 2
    assert [outcomes[0], outcomes[1], outcomes[3]] == [b"1", b"2", b"4"]
    assert getattr(outcomes[2], "code", None) == -32603


@pytest.mark.parametrize(("size", "in_thread"), [(1_000, False), (restricted.AT_ONCE, True)])
async def test_what_may_not_be_seen_of_a_large_answer_is_taken_away_in_a_thread(size: int, in_thread: bool) -> None:
    record = {"caller_id": 1, "env_vars": {"A": "secret"}, "script": "x" * size}
    asked = lambda reply, inner: to_json(record), None, restricted.hidden_env(7)
    outcomes, computed = _operation([(("GET", "k"), restricted._hidden_answer, asked)])
    assert bool(computed) is in_thread
    assert isinstance(outcomes[0], bytes)
    assert from_json(outcomes[0]) == {**record, "env_vars": {}}


# -- places


def test_the_address_that_a_proxy_tells_has_the_places() -> None:
    places = Places(800)
    for at in range(400):
        places.take(client(), 1, at, "203.0.113.1")
    with pytest.raises(Overloaded, match=r"from 203\.0\.113\.1"):
        places.take(client(), 1, 1000, "203.0.113.1")
    taken = places.take(client(), 1, 1000, "203.0.113.2")
    taken.give_back()
