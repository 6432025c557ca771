"""Whose time of the store is whose."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from coordinator.actors.metering import metered
from coordinator.actors.request import Operation, Request
from coordinator.rpc.access.limits import CallerLimits
from coordinator.storage.connection import Command
from coordinator.storage.faults import ReplyError


class One(Request):
    """A request of somebody who is charged, or of the coordinator."""

    def __init__(self, commands: list[Command], spent: list[float] | None = None) -> None:
        def nothing() -> Operation:
            yield []
            return b""

        super().__init__(nothing(), deadline=0, writes=False)
        self.commands = commands
        if spent is not None:
            self.charge = spent.append

    def reply(self, outcome: Any) -> None:
        raise AssertionError("nobody asks")


def at(milliseconds: float) -> list[bytes]:
    """What the store says of its time."""
    return [b"1700000000", b"%d" % (milliseconds * 1000)]


GET: Command = ("GET", "k")
SET: Command = ("SET", "k", "v", "PX", 1, "NX")  # twice as many arguments and more


def test_what_nobody_is_charged_for_is_sent_as_it_is() -> None:
    sent, meter = metered([GET, SET], [1, 1], [GET, SET], [One([GET]), One([SET])])
    assert (sent, meter) == ([GET, SET], None)


def test_each_pays_for_what_is_between_its_commands_and_the_next_ones() -> None:
    first: list[float] = []
    second: list[float] = []
    requests = [One([GET, SET], first), One([GET], second), One([SET])]
    sent, meter = metered([GET, SET, GET, SET], [1] * 4, [GET, SET, GET, SET], requests)
    assert [command for command in sent if command != ("TIME",)] == [GET, SET, GET, SET]
    assert meter is not None
    replies: list[Any] = [b"r%d" % place for place in range(len(sent))]
    for place, time in zip(meter.asked, (at(1), at(4), at(6), at(100)), strict=True):
        replies[place] = time
    kept = meter.read(replies)
    assert first == [pytest.approx(0.003)]
    assert second == [pytest.approx(0.002)]
    assert len(kept) == 4


def test_what_is_joined_is_divided_by_its_arguments() -> None:
    first: list[float] = []
    second: list[float] = []
    sent, meter = metered([("FCALL", "hc_many")], [2], [GET, SET], [One([GET], first), One([SET], second)])
    assert meter is not None
    assert meter.read([at(0), b"both", at(8)]) == [b"both"]
    assert first == [pytest.approx(0.002)]
    assert second == [pytest.approx(0.006)]
    assert len(sent) == 3


def test_only_what_came_is_read_and_a_store_that_does_not_tell_charges_nobody() -> None:
    spent: list[float] = []
    requests = [One([GET], spent), One([SET])]
    _, meter = metered([GET, SET], [1, 1], [GET, SET], requests)
    assert meter is not None
    assert meter.read([at(1), b"got", at(2)]) == [b"got"]
    assert spent == [pytest.approx(0.001)]
    refused = ReplyError("NOPERM")
    assert meter.read([refused, b"got", refused, b"set", refused]) == [b"got", b"set"]
    assert meter.read([at(9), b"got", at(2), b"set", at(3)]) == [b"got", b"set"]  # its clock was set back
    assert len(spent) == 1


async def test_what_the_store_took_is_paid_for_before_the_next_message(autojump: None) -> None:
    counted = CallerLimits(0, 0, 0.2)
    one, other = counted.account(None, "192.0.2.1"), counted.account(None, "192.0.2.2")
    assert one.admit(1) is None
    one.charge(0.3)
    assert one.admit(1) is None
    one.charge(0.3)
    refused = one.admit(1)
    assert refused is not None
    assert (refused.data["setting"], refused.data["limit"]) == ("caller_store_time", 0.2)
    assert refused.data["retry_after"] == pytest.approx(1, abs=0.01)
    assert other.admit(1) is None
    await trio.sleep(refused.data["retry_after"])
    assert one.admit(1) is None
