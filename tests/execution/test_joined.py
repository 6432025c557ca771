"""Transitions joined to one call: as if each had been called by itself, one after the other."""

from __future__ import annotations

import re
from typing import Any

import pytest

from coordinator.actors.pipeline import ARGUMENTS, join, part
from coordinator.storage import library
from coordinator.storage.faults import ReplyError
from coordinator.storage.functions import attempts, records
from coordinator.storage.functions.kinds import LONG
from coordinator.storage.keys import Command, Layout, Transition
from tests.execution.conftest import NewContext
from tests.execution.driver import Context, job

KEYS = Layout().keyspace(1)


def transition(name: str, *arguments: str | int) -> Transition:
    return KEYS.transition(name, *arguments)


# -- by hand


def test_neighbours_are_joined_and_nothing_changes_places() -> None:
    first, second, third = (transition("hc_finish", f"job:7:{id}") for id in (1, 2, 3))
    other: Command = ("PING",)

    joined, counts = join([first, second, other, b"packed", third])

    assert joined == [Transition.many([first, second], "hc_many_ending"), other, b"packed", third]
    assert counts == [2, 1, 1, 1]
    assert type(joined[0]) is tuple
    head = ("FCALL", "hc_many_ending", 1, "engine", KEYS.channel, KEYS.coordinator)
    assert joined[0] == (*head, "hc_finish", "1 2", "job:7:1", "job:7:2")


def test_those_that_are_refused_without_memory_are_kept_apart_only_then() -> None:
    create, finish = transition("hc_record_upsert", "job:7:1"), transition("hc_finish", "job:7:2")
    commands: list[Command] = [create, create, finish, finish, create]

    assert [command[1] for command in join(commands)[0]] == ["hc_many"]
    joined, counts = join(commands, apart=True)
    assert [command[1] for command in joined] == ["hc_many", "hc_many_ending", "hc_record_upsert"]
    assert counts == [2, 2, 1]


def test_a_call_has_a_bounded_number_of_arguments_unless_one_alone_has_more() -> None:
    small, large = transition("hc_log", *range(ARGUMENTS // 3)), transition("hc_log", *range(2 * ARGUMENTS))

    _, counts = join([small, small, small, large, small])

    assert counts == [2, 1, 1, 1]


def test_what_may_be_much_work_travels_by_itself() -> None:
    heartbeat, cancel = transition("hc_heartbeat", "job:7:1", "t"), transition("hc_flow_cancel", "flow:1", "why")
    delete, resume = records.record_delete(KEYS, "flow:1", "t"), attempts.resume(KEYS, 1, "", ["t"])

    joined, counts = join([heartbeat, heartbeat, cancel, delete, heartbeat, resume, heartbeat, heartbeat])

    assert counts == [2, 1, 1, 4]
    assert [command for command, count in zip(joined, counts, strict=True) if count == 1] == [*(cancel, delete)]


def test_every_function_that_travels_by_itself_is_there() -> None:
    for name in LONG:
        assert f"register('{name}'" in library.SOURCE


def test_a_reply_is_parted_and_its_effects_kept() -> None:
    fault = ReplyError("LOADING")
    replies = [[[[b"ok", 1], b"none", [b"fault", b"WRONGTYPE no hash"]], [b"ready:V"]], b"PONG", fault]

    parted, effects = part(replies, [3, 1, 2])

    assert parted[:2] == [[[b"ok", 1], []], [[b"none"], []]]
    assert type(parted[2]) is ReplyError
    assert str(parted[2]) == "WRONGTYPE no hash"
    assert parted[3:] == [b"PONG", fault, fault]
    assert effects == [b"ready:V"]


def test_replies_that_did_not_come_are_not_made_up() -> None:
    assert part([b"PONG"], [1, 2, 1]) == ([b"PONG"], [])


# -- on the store


def prepare(context: Context) -> list[Transition]:
    """Flows on their way, and what happens to them next."""
    context.wire.ask(("FLUSHALL",))
    context.submit(1, [job(1), job(2), job(3, [1, 2])])
    context.submit(2, [job(11), job(12, [11])])
    context.submit(3, [job(21), job(22)])
    tokens = {attempt.id: attempt.token for attempt in (context.take_one() for _ in range(5))}

    def finish(id: int, token: str = "") -> Transition:
        return context.keys.transition("hc_finish", f"job:7:{id}", token or tokens[id], f'{{"of":"{id}"}}')

    def take(number: int) -> Transition:
        own = f"3 30000 5 1000000 {number} secret{number}"
        return context.keys.transition("hc_take", own, "", "runner3", "somebody", "Python")

    return [
        *(finish(1), finish(21), finish(2), finish(1), finish(2, "stale")),
        take(1),  # what those have released
        context.keys.transition("hc_heartbeat", "job:7:11", tokens[11]),
        context.keys.transition("hc_fail", "job:7:11", tokens[11], "no good", "", 0),
        *(take(2), take(2)),
        finish(22),
        context.keys.transition("hc_flow_cancel", "flow:3", "too late"),
        context.keys.transition("hc_flow_cancel", "flow:1", "enough"),
        finish(99, "of nothing"),
        context.keys.transition("hc_flow_retry", "flow:2"),
        context.keys.transition("hc_tick", 200),
    ]


def all_there_is(context: Context) -> dict[str, Any]:
    found = {}
    for key, kind, stored in context.wire.stored():
        if key.endswith(b"take:"):  # of those in `prepare`
            continue
        content = sorted(stored.items()) if kind == "hash" else stored
        if kind == "stream":
            content = [(id.split(b"-")[0], event) for id, (_, text) in stored for event in text.split(b"\n")]
        found[key.decode()] = content
    return found


def timeless(content: Any) -> str:
    """With all that is different each time made the same."""
    text = re.sub(r"\b\d{13}(-\d+)?\b", "TIME", repr(content).replace(r"\x00", "|"))
    text = re.sub(r"(?<![\w-])[\w-]{22}(?=-7-\d)", "SECRET", text)
    return re.sub(r"\b1\d{9}\b", "SECONDS", text)


def test_joined_they_do_what_they_do_by_themselves(new_context: NewContext) -> None:
    context = new_context()
    by_themselves = [context.wire.ask(transition)[0] for transition in prepare(context)]
    after_those = all_there_is(context)

    transitions = prepare(context)
    joined, counts = join([*transitions])
    together, effects = part(context.wire.ask(*joined), counts)
    effects = [*effects, *(effect for _, told in together for effect in told)]

    assert sum(counts) == len(transitions)
    assert max(counts) > 5
    assert [timeless(result) for result, _ in together] == [timeless(result) for result, _ in by_themselves]
    assert timeless(all_there_is(context)) == timeless(after_those)
    told = {effect for _, effects in by_themselves for effect in effects if not effect.startswith(b"due:")}
    assert {timeless(effect) for effect in effects if not effect.startswith(b"due:")} == {
        timeless(effect) for effect in told
    }


def test_a_fault_of_one_concerns_no_other(context: Context) -> None:
    first, *rest = prepare(context)
    context.wire.ask(("SET", f"{context.keys.prefix}job:7:77", "no hash"))
    faulty = context.keys.transition("hc_finish", "job:7:77", "token", "{}")

    joined, counts = join([first, faulty, *rest])
    parted, _ = part(context.wire.ask(*joined), counts)

    assert isinstance(parted[1], ReplyError)
    assert "WRONGTYPE" in str(parted[1])
    assert parted[0][0][0].startswith(b"ok Finished 1 ")
    assert not any(isinstance(reply, ReplyError) for reply in parted[2:])
    assert context.load_flow(1)["status"] == "Error"
    assert context.load_flow(3)["status"] == "Finished"


@pytest.mark.parametrize("last", ["hc_flow_cancel", "hc_flow_retry"])
def test_what_has_finished_counts_before_anything_else_is_looked_at(context: Context, last: str) -> None:
    context.submit(1, [job(1), job(2)])
    finishes = [
        context.keys.transition("hc_finish", f"job:7:{attempt.id}", attempt.token, "{}")
        for attempt in (context.take_one(), context.take_one())
    ]

    together = Transition.many([*finishes, context.keys.transition(last, "flow:1", "too late")])
    parted, _ = part(context.wire.ask(together), [3])

    assert parted[2][0] == [b"state", b"Finished"]


def test_what_is_joined_is_bounded_by_what_it_does() -> None:
    """A runner that comes back has each of its attempts looked up."""
    cheap = transition("hc_log", *range(12))
    dear = transition("hc_resume", 3, "session", *map(str, range(10)))
    assert len(cheap) == len(dear)

    _, (of_cheap,) = join([cheap] * 100)
    _, counts = join([dear] * 100)

    assert of_cheap == 100
    assert max(counts) * len(dear) * 10 <= ARGUMENTS
    assert sum(counts) == 100
