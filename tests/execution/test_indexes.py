"""What several transitions of one call create is put into the indexes together; nothing in the call sees that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coordinator.models import FlowCreateParams, JobCreateParams
from coordinator.operations import records
from coordinator.storage.functions.control import context_pause
from coordinator.storage.functions.guarding import QUOTA, Guard, guarded, refusing_guard
from coordinator.storage.functions.joined import many, read_many
from coordinator.storage.keys import Command, Transition, index_entry, job_name
from tests.execution.driver import CALLER, Context, job


def create(context: Context, id: int, **members: Any) -> Command:
    given = {**job(id), "context_id": context.keys.context_key, **members}
    params = JobCreateParams.model_validate({"context_id": context.keys.context_key, "job": given})
    return records.create_job(context.keys, params)[0]


def create_flow(context: Context, id: int) -> Command:
    ids = {"id": id, "caller_id": CALLER, "context_id": context.keys.context_key}
    flow: dict[str, Any] = {**ids, "jobs": [], "env_vars": {}}
    params = FlowCreateParams.model_validate({"context_id": context.keys.context_key, "flow": flow})
    return records.create_flow(context.keys, params)[0]


def together(context: Context, commands: Sequence[Command]) -> list[Any]:
    """The replies to these transitions in one call, each with what it has set going."""
    transitions = [command for command in commands if isinstance(command, Transition)]
    assert len(transitions) == len(commands)
    (reply,) = context.wire.ask(many(transitions))
    return read_many(reply, len(transitions))[0]


def indexed(context: Context, kind: str) -> list[str]:
    (entries,) = context.wire.ask(("ZRANGE", context.keys.index_of(kind), 0, -1))
    return [entry.decode() for entry in entries]


def jobs(*ids: int) -> list[str]:
    return [index_entry(CALLER, id) for id in ids]


def test_all_are_there_once_each_in_the_index_of_its_kind(context: Context) -> None:
    together(context, [create(context, 2), create_flow(context, 5), create(context, 1), create(context, 2)])

    assert indexed(context, "job") == jobs(1, 2)
    assert indexed(context, "flow") == [index_entry(5)]


def test_one_that_is_deleted_in_the_call_that_created_it_is_not_there(context: Context) -> None:
    delete = context.keys.transition("hc_record_delete", job_name(CALLER, 2), "token", 0)

    *_, deleted = together(context, [create(context, 1), create(context, 2), create(context, 3), delete])

    assert deleted[0] == [b"ok", 1]
    assert indexed(context, "job") == jobs(1, 3)


def test_a_quota_counts_what_the_same_call_has_created(context: Context) -> None:
    guards = {id: [Guard(QUOTA, "job 2", job_name(CALLER, id))] for id in (1, 2, 3)}
    wanted = [guarded(create(context, id), guards[id]) for id in guards]  # type: ignore[arg-type]

    replies = together(context, wanted)

    assert [refusing_guard(reply) is None for reply in replies] == [True, True, False]
    assert indexed(context, "job") == jobs(1, 2)


def test_a_context_that_the_same_call_has_begun_is_there(context: Context) -> None:
    id = context.keys.context_key
    assert id is not None

    _, paused = together(context, [create(context, 1), context_pause(context.keys, id, None, pauses=True)])

    assert paused[0][0] == b"ok"


def test_a_fault_of_one_leaves_none_of_the_others_out(context: Context) -> None:
    context.wire.ask(("SET", f"{context.keys.prefix}{job_name(CALLER, 2)}", "no hash"))

    replies = together(context, [create(context, 1), create(context, 2), create(context, 3)])

    assert isinstance(replies[1], Exception)
    assert indexed(context, "job") == jobs(1, 3)
