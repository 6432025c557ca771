"""Transitions joined to one call, some of which fail: the others are as if each had been called by itself."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import pytest

from coordinator import models
from coordinator.actors.pipeline import join, part
from coordinator.errors import StorageError
from coordinator.operations import records
from coordinator.storage import library
from coordinator.storage.faults import ReplyError
from coordinator.storage.functions import attempts, upkeep
from coordinator.storage.keys import Command
from tests.execution.conftest import NewContext
from tests.execution.driver import CALLER, Context, job, message

SEQUENCES: Final = int(os.environ.get("FAULT_SEQUENCES", "120"))  # more look longer
FLOWS: Final = (1, 2, 3)


class Plan(NamedTuple):
    """What happens in one sequence, whatever the attempts' tokens are."""

    submits: Sequence[tuple[int, list[dict[str, Any]]]]
    messages: Sequence[dict[str, Any]]
    taken: int
    spoils: Sequence[Callable[[str], Command]]
    steps: Sequence[tuple[Any, ...]]


def draw(random: random.Random) -> Plan:
    submits = []
    ids: list[int] = []
    for flow in FLOWS:
        own = [10 * flow + place for place in range(random.randint(2, 6))]
        ids += own
        specs = []
        for id in own:
            depends = [other for other in own if other < id and random.random() < 0.4]
            prerequisites = ["signed"] if random.random() < 0.15 else []
            specs.append(job(id, depends, retries=random.choice([0, 1]), prerequisites=prerequisites))
        submits.append((flow, specs))
    messages = [message(1, [job(91), job(92, [91])])]
    ids += [91, 92]
    spoils = [_spoil(random, ids) for _ in range(random.choice([1, 1, 2, 3]))]
    steps: list[tuple[Any, ...]] = []
    for _ in range(random.randint(6, 40)):
        kind = random.choice(["finish"] * 6 + ["fail", "heartbeat", "log", "take", "write", "write flow"])
        id = random.choice(ids)
        steps += [(kind, id)] * random.choice([1, 1, 1, 2])
        if kind == "finish":  # together with others
            steps += [("finish", random.choice(ids)) for _ in range(random.randint(0, 5))]
    return Plan(submits, messages, random.randint(3, 12), spoils, steps)


def _spoil(random: random.Random, ids: Sequence[int]) -> Callable[[str], Command]:
    """Something that makes transitions fail that come across it."""
    name = f"job:{CALLER}:{random.choice(ids)}"
    flow = random.choice(FLOWS)
    hashes = [
        (name, "x_wait", "many"),
        (name, "x_awaits", "[not JSON"),
        (name, "retries", "often"),
        (name, "x_attempt", "first"),
        (f"flow:{flow}", "x_pending", "some"),
    ]
    keys = [name, name, f"flow:{flow}", f"events:{flow}", "queue:python", f"message:{CALLER}:1", "waiting:signed"]
    if random.random() < 0.5:
        key = random.choice(keys)
        return lambda prefix: ("SET", prefix + key, "of another type")
    spoiled = random.choice(hashes)
    return lambda prefix: ("HSET", prefix + spoiled[0], *spoiled[1:])


def write_job(context: Context, id: int) -> Command:
    spec = {**job(id), "result": {"written": "over"}}
    return records.create_job(context.keys, models.JobCreateParams.model_validate({"context_id": 1, "job": spec}))[0]


def write_flow(context: Context, id: int) -> Command:
    flow = {"id": id // 10, "caller_id": CALLER, "context_id": 1, "jobs": [id], "env_vars": {}}
    return records.create_flow(context.keys, models.FlowCreateParams.model_validate({"context_id": 1, "flow": flow}))[0]


def prepare(context: Context, plan: Plan) -> list[Command]:
    """The transitions of a plan, in a store of its own that is spoilt."""
    context.wire.ask(("FLUSHALL",), library.load_command())  # whose memory begins anew
    for flow, specs in plan.submits:
        context.submit(flow, specs)
    for spec in plan.messages:
        context.create_message(spec["id"], spec["job"], timeout=100, timeout_ack=50, timeout_result=70)
        context.send(spec["id"])
    tokens = {attempt.id: attempt.token for attempt in context.take(plan.taken, number=1)}
    for spoil in plan.spoils:
        ask(context, spoil(context.keys.prefix))  # which another one may have made impossible
    takes = iter(range(1000, 2000))

    def transition(kind: str, id: int) -> Command:  # noqa: PLR0911 - one for each kind
        name, token = f"job:{CALLER}:{id}", tokens.get(id, "1-1-1-1")
        match kind:
            case "finish":
                return attempts.finish(context.keys, name, token, b'{"of":"%d"}' % id)
            case "fail":
                return attempts.fail(
                    context.keys, name, token, "no good", None, may_retry=bool(id % 2), is_lost=id % 3 == 0
                )
            case "heartbeat":
                return attempts.heartbeat(context.keys, name, token)
            case "log":
                return attempts.append_log(context.keys, name, token, "stdout", ["one", "two"])
            case "take":
                return attempts.take(
                    context.keys,
                    runner_id=4,
                    session="session",
                    topic="runner4",
                    lease=30.0,
                    count=100,
                    max_bytes=1_000_000,
                    holder="somebody",
                    number=str(next(takes)),
                    secret="s" * 22,
                    script_types=["Python"],
                )
            case "write":
                return write_job(context, id)
            case _:
                return write_flow(context, id)

    return [transition(*step) for step in plan.steps]


def ask(context: Context, command: Command) -> Any:
    try:
        return context.wire.ask(command)[0]
    except StorageError as error:
        return ReplyError(error.data["detail"])


def all_there_is(context: Context) -> dict[str, Any]:
    """What is stored, in no order, for what is counted off together is queued in another one."""
    found = {}
    for key, kind, stored in context.wire.stored():
        content = stored.items() if kind == "hash" else stored
        if kind == "stream":
            content = [(name, event) for _, (name, text) in content for event in text.split(b"\n")]
        if key.removeprefix(context.keys.prefix.encode()).startswith(b"take:"):
            content = content.split()
        items = [content] if isinstance(content, bytes) else [timeless(item) for item in content]
        found[key.decode()] = sorted(map(repr, items))
    return found


def timeless(content: Any) -> str:
    """With all that is different each time made the same."""
    text = re.sub(r"\b\d{13}(-\d+)?\b", "TIME", repr(content).replace(r"\x00", "|"))
    text = re.sub(r"(?<![\w-])[\w-]{22}(?=-\d+-\d+\b)", "SECRET", text)
    text = re.sub(r"\b1\d{9}\b", "SECONDS", text)
    return re.sub(r"\b[0-9a-f]{32}\b", "UUID", text)


def outcome(reply: Any) -> Any:
    """A reply, in no order, or that it is a fault."""
    if isinstance(reply, ReplyError):
        text = re.sub(r"(^ERR )|( script: .*$)", "", str(reply))
        return re.sub(r"user_function:\d+", "user_function", text)
    word, *rest = reply[0]
    return timeless(word), [sorted(map(timeless, item)) if isinstance(item, list) else timeless(item) for item in rest]


@pytest.mark.parametrize("part_of_them", range(3))
def test_whatever_fails_the_others_are_as_if_called_alone(new_context: NewContext, part_of_them: int) -> None:
    context = new_context()
    failed = mixed = 0
    for seed in range(part_of_them, SEQUENCES, 3):
        plan = draw(random.Random(seed))
        by_themselves = [ask(context, command) for command in prepare(context, plan)]
        after_those = all_there_is(context)

        transitions = prepare(context, plan)
        joined, counts = join([*transitions])
        together, effects = part([ask(context, command) for command in joined], counts)

        assert sum(counts) == len(transitions)
        assert [outcome(reply) for reply in together] == [outcome(reply) for reply in by_themselves], seed
        assert all_there_is(context) == after_those, seed
        told = {*effects, *(effect for reply in together if not isinstance(reply, ReplyError) for effect in reply[1])}
        expected = {
            effect
            for reply in by_themselves
            if not isinstance(reply, ReplyError)
            for effect in reply[1]
            if not effect.startswith(b"due:")
        }
        if context.keys.prefix + "queue:python" not in after_those:
            expected.discard(b"ready:Python")  # a take in the same call has emptied the queue
        assert {timeless(effect) for effect in expected} <= {timeless(effect) for effect in told}, seed
        faults = sum(isinstance(reply, ReplyError) for reply in together)
        failed += faults
        mixed += 0 < faults < len(together)
    assert failed > SEQUENCES / 3
    assert mixed > SEQUENCES / 12


def test_a_timer_that_fails_concerns_no_other_and_is_looked_at_again(new_context: NewContext) -> None:
    context = new_context()
    context.wire.ask(("FLUSHALL",), library.load_command())
    context.submit(1, [job(1, retries=1), job(2, retries=1), job(3, retries=1)])
    taken = context.take(3)
    for attempt in taken:
        context.fail(attempt)
    prefix = context.keys.prefix
    context.wire.ask(("SET", f"{prefix}job:{CALLER}:2", "no hash"), ("HINCRBY", f"{prefix}engine", "skew", 2_000))

    (*_, faults), effects = upkeep.read_tick(context.wire.ask(upkeep.tick(context.keys, 200))[0])

    (fault,) = faults
    assert fault.startswith("retry:job:7:2: WRONGTYPE")
    assert b"ready:Python" in effects
    assert {attempt.id for attempt in context.take(3)} == {1, 3}
    again = context.wire.ask(("ZSCORE", f"{prefix}timers", "retry:job:7:2"))[0]
    assert again is not None
    assert upkeep.read_tick(context.wire.ask(upkeep.tick(context.keys, 200))[0])[0].faults == []


def test_a_job_that_is_no_record_any_more_holds_up_no_other_that_is_taken(new_context: NewContext) -> None:
    context = new_context()
    context.wire.ask(("FLUSHALL",), library.load_command())
    context.submit(1, [job(1), job(2), job(3)])
    context.submit(2, [job(11)])
    prefix = context.keys.prefix
    context.wire.ask(("SET", f"{prefix}job:{CALLER}:2", "no hash"), ("SET", f"{prefix}flow:2", "no hash"))

    assert {attempt.id for attempt in context.take(4)} == {1, 3}


def test_an_attempt_that_cannot_begin_is_lost_alone(new_context: NewContext) -> None:
    context = new_context()
    context.wire.ask(("FLUSHALL",), library.load_command())
    context.submit(1, [job(1)])
    context.submit(2, [job(11)])
    prefix = context.keys.prefix
    context.wire.ask(("HSET", f"{prefix}job:{CALLER}:1", "x_attempt", "first"))

    assert [attempt.id for attempt in context.take(2)] == [11]
    context.wire.ask(("HDEL", f"{prefix}job:{CALLER}:1", "x_attempt"), ("HINCRBY", f"{prefix}engine", "skew", 31_000))
    context.tick()
    assert context.load_job(1)["status"] == "Dispatched"  # as one is that was lost


def test_a_prerequisite_releases_the_others_when_one_cannot_be(new_context: NewContext) -> None:
    context = new_context()
    context.wire.ask(("FLUSHALL",), library.load_command())
    context.submit(1, [job(id, prerequisites=["paid"]) for id in (1, 2, 3)])
    context.wire.ask(("SET", f"{context.keys.prefix}job:{CALLER}:2", "no hash"))

    with pytest.raises(StorageError):
        context.satisfy("paid")

    assert {attempt.id for attempt in context.take(4)} == {1, 3}
