"""Writers in the store: calls of an older epoch are refused, and replies are kept for who may not have got them."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.errors import StorageError
from coordinator.storage.faults import ReplyNotKept
from coordinator.storage.functions import attempts, flows, joined, once, records
from coordinator.storage.functions.attempts import Taken
from coordinator.storage.keys import Command, Transition
from tests.execution.by_hand import take_one
from tests.execution.driver import Context, job


class Writer:
    """One writer of a context, as a supervisor is one."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.epoch = 0
        self.calls = 0

    def begin(self, epoch: int, after: int | None = None) -> dict[int, Any]:
        """Begin an epoch. Returns the replies kept."""
        (reply,) = self.context.wire.ask(once.fence(self.context.keys, "w", epoch, after))
        self.epoch = epoch
        return once.read_fence(reply)

    def call(self, command: Command, *, epoch: int = 0, unanswered: int = 1) -> Any:
        self.calls += 1
        stamp = f"w:{epoch or self.epoch} {self.calls} {unanswered}"
        (reply,) = self.context.wire.ask(Transition.stamped(command, stamp))
        return reply


@pytest.fixture
def writer(context: Context) -> Writer:
    context.wire.ask(("FLUSHDB",))
    return Writer(context)


def cancel(context: Context, flow: int = 1) -> Transition:
    return flows.flow_cancel(context.keys, flow, "enough")


def test_an_older_epoch_writes_no_more(writer: Writer, context: Context) -> None:
    context.submit(1, [job(1)])
    writer.begin(1)
    writer.begin(2)
    for epoch in (1, 3):
        with pytest.raises(StorageError, match="FENCED"):
            writer.call(cancel(context), epoch=epoch)
    assert context.wire.ask(("HGET", context.keys.flow(1), "status")) == [b"Started"]
    writer.call(cancel(context))
    assert context.wire.ask(("HGET", context.keys.flow(1), "status")) == [b"Error"]
    with pytest.raises(StorageError, match="FENCED"):
        writer.begin(1)


def test_replies_are_kept_as_they_were(writer: Writer, context: Context) -> None:
    writer.begin(1)
    context.submit(1, [job(1), job(2)])
    context.submit(2, [job(3)])
    taken = [context.take_one() for _ in range(3)]

    def finish(at: int) -> Transition:
        name = f"job:7:{taken[at].id}"
        return attempts.finish(context.keys, name, taken[at].token, b"{}")

    replies = {
        1: writer.call(records.record_delete(context.keys, "job:7:99", "t")),
        2: writer.call(finish(0)),
        3: writer.call(Transition.many([finish(1), finish(2), cancel(context, 2)]), unanswered=2),
        4: writer.call(cancel(context, 3)),
    }
    assert writer.begin(2, 0) == replies
    assert writer.begin(2, 2) == {number: reply for number, reply in replies.items() if number > 2}
    assert writer.begin(3) == {}
    assert writer.begin(4, 3) == {4: replies[4]}  # also when the answer to an epoch before was lost


def test_what_is_answered_is_soon_forgotten(writer: Writer, context: Context) -> None:
    writer.begin(1)
    for _ in range(100):
        writer.call(cancel(context), unanswered=3)
    kept = writer.begin(1, 0)
    assert len(kept) <= 20
    assert {98, 99, 100} <= kept.keys()


def test_a_repeatable_transition_is_called_again(writer: Writer, context: Context) -> None:
    writer.begin(1)
    context.submit(1, [job(1)])
    take = take_one(context.keys)
    writer.call(take)
    writer.call(Transition.many([cancel(context), take]))
    kept = writer.begin(2, 0)
    assert kept.keys() == {2}
    (cancelled, again), _ = joined.read_many(kept[2], 2)
    assert once.read_kept(cancelled) is cancelled
    assert once.read_kept(again) is None


def test_what_is_too_large_is_not_kept(writer: Writer, context: Context) -> None:
    writer.begin(1)
    context.submit(1, [job(1)], env_vars={"LARGE": "x" * 100_000})
    writer.call(cancel(context))
    writer.call(Transition.many([cancel(context), cancel(context, 9)]))
    kept = writer.begin(2, 0)
    assert isinstance(once.read_kept(kept[1]), ReplyNotKept)
    (large, small), _ = joined.read_many(kept[2], 2)
    assert isinstance(once.read_kept(large), ReplyNotKept)
    assert once.read_kept(small) is small


def test_a_writer_that_ends_leaves_nothing_and_an_older_one_ends_no_newer(writer: Writer, context: Context) -> None:
    writer.begin(1)
    writer.begin(2)
    context.wire.ask(once.release(context.keys, "w", 1))
    writer.call(records.record_delete(context.keys, "job:7:99", "t"))
    context.wire.ask(once.release(context.keys, "w", 2))
    assert context.wire.ask(("KEYS", f"{context.keys.prefix}writer:*")) == [[]]


def test_an_older_take_of_a_holder_is_no_new_one(context: Context) -> None:
    context.submit(1, [job(1), job(2)])

    def take(number: str) -> Taken:
        command = attempts.take(
            context.keys,
            runner_id=3,
            session="",
            topic="t",
            lease=30,
            count=1,
            max_bytes=1000,
            holder="h",
            number=number,
            secret="s",
            script_types=["Python"],
        )
        (reply,) = context.wire.ask(command)
        return attempts.read_take(reply)[0]

    assert len(take("2").attempts) == 1
    assert take("1").attempts == []
    assert len(take("10").attempts) == 1
