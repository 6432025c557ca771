"""What is counted of callers, without a server."""

from __future__ import annotations

import timeit

import pytest
import trio

from coordinator.rpc.access import limits
from coordinator.rpc.access.limits import CallerLimits, whose
from coordinator.rpc.jsonrpc.protocol import id_of

pytestmark = pytest.mark.usefixtures("autojump")


async def test_a_bucket_gives_two_seconds_worth_and_then_as_it_fills() -> None:
    counted = CallerLimits(10, 0)
    one = counted.account(None, "192.0.2.1")
    assert [one.admit(1) for _ in range(20)] == [None] * 20
    refused = one.admit(1)
    assert refused is not None
    assert refused.data["retry_after"] == pytest.approx(0.1, abs=0.002)
    assert counted.account(None, "192.0.2.2").admit(1) is None
    await trio.sleep(refused.data["retry_after"])
    assert one.admit(1) is None
    assert one.admit(1) is not None
    await trio.sleep(1000)
    assert [one.admit(1) for _ in range(21)].count(None) == 20


async def test_a_share_is_what_one_of_the_workers_gives() -> None:
    one = CallerLimits(10, 0, share=0.5).account(None, "192.0.2.1")
    assert [one.admit(1) for _ in range(20)].count(None) == 10


async def test_a_reply_is_paid_for_before_the_next_message() -> None:
    one = CallerLimits(0, 1000).account(None, "192.0.2.1")
    assert one.admit(100) is None
    one.spend(9_900)
    refused = one.admit(100)
    assert refused is not None
    assert refused.data["setting"] == "caller_bytes"
    assert refused.data["retry_after"] == pytest.approx(8.1, abs=0.01)
    await trio.sleep(refused.data["retry_after"])
    assert one.admit(100) is None


async def test_a_message_that_is_more_than_the_burst_is_let_in_when_nothing_is_owed() -> None:
    one = CallerLimits(0, 1000).account(None, "192.0.2.1")
    assert one.admit(10_000) is None
    refused = one.admit(10_000)
    assert refused is not None
    await trio.sleep(refused.data["retry_after"])
    assert one.admit(10_000) is None


async def test_pauses_grow_while_a_caller_goes_on_and_are_no_longer_than_it_has_to_wait() -> None:
    one = CallerLimits(1, 0).account(None, "192.0.2.1")
    assert [one.admit_batch(2000), one.admit_batch(2000) is not None] == [None, True]
    refused = [one.admit(1) for _ in range(10)]
    pauses = [one.pause(error) for error in refused if error is not None]
    assert pauses == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 1.28, 1.28]
    other = CallerLimits(1000, 0).account(None, "192.0.2.1")
    while (error := other.admit(1)) is None:
        pass
    assert [other.pause(error) for _ in range(5)] == [error.data["retry_after"]] * 5


async def test_many_addresses_neither_take_memory_nor_drive_out_who_has_logged_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "CALLERS", 100)
    counted = CallerLimits(10, 0)
    known = counted.bucket(("actor", 0, 7), "")
    counted.admit(known, 20, 0)
    for number in range(10_000):
        counted.account(None, f"2001:db8:{number:x}::1").admit(1)
    assert counted.callers == 101
    assert counted.bucket(("actor", 0, 7), "") is known
    assert counted.admit(known, 1, 0) is not None


def test_an_address_of_ipv6_stands_for_its_subscriber() -> None:
    assert whose("2001:db8:1:2::1") == whose("2001:db8:1:2:ffff::9") != whose("2001:db8:1:3::1")
    assert whose("::ffff:192.0.2.7") == whose("192.0.2.7") == "192.0.2.7"
    assert whose("fe80::1%eth0") == whose("fe80::2")
    assert whose("") == ""


@pytest.mark.parametrize(
    ("message", "id"),
    [
        ('{"jsonrpc":"2.0","method":"a","id":12}', b"12"),
        (b'{"id":"x","method":"a"}', b'"x"'),
        ('[{"method":"a"},{"method":"a","id":3}]', b"3"),
        ('{"method":"a"}', b"null"),
        ("{", b"null"),
        (b"\xff", b"null"),
        ("\ud800", b"null"),
        ('{"id":5,"params":"' + "é" * 5000 + '"}', b"5"),
        (bytearray(b'{"params":"' + b"x" * 5000 + b'","id":5}'), b"null"),
    ],
)
def test_the_id_of_what_is_refused(message: str | bytes | bytearray, id: bytes) -> None:
    assert id_of(message) == id


async def test_to_count_a_message_takes_no_longer_than_to_render_its_id() -> None:
    """About a microsecond; compared with something that takes as long, for machines differ."""
    one = CallerLimits(10**9, 10**9).account(None, "192.0.2.1")
    counting = min(timeit.repeat(lambda: one.admit(100), number=2000, repeat=5))
    reading = min(timeit.repeat(lambda: id_of('{"jsonrpc":"2.0","method":"a","id":12}'), number=2000, repeat=5))
    print(f"{counting / 2000 * 1e6:.2f} µs to count, {reading / 2000 * 1e6:.2f} µs to tell an id")
    assert counting < 3 * reading
