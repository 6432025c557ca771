"""The jobs in a message: they go in as JobCreate and come out as Job, and are upserted with the message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.clients import Client
from tests.support.records import CALLER, Record, as_sent, create, load, sample
from tests.support.server import ValkeyProcess

LONG_AGO = 1_000_000_000


def message_with(context: int, *jobs: Record) -> tuple[str, Any]:
    """The call that creates the message `context` with these jobs."""
    return create("message", context, sample("message", context, context, job=list(jobs)))


def change_jobs(store: ValkeyProcess, context: int, **members: Any) -> None:
    """Change members of all jobs of the message, as time and other programs do."""
    redis, key = store.client(context), f"message:{CALLER}:{context}"
    jobs = [{**job, **members} for job in json.loads(redis.hget(key, "job") or "")]
    redis.hset(key, "job", json.dumps(jobs))


def test_they_come_out_completed_as_new_jobs(client: Client, context: int) -> None:
    job = sample("job", context, 1)

    created = client.result(*message_with(context, job))

    times = {"created_at": created["created_at"], "updated_at": created["created_at"]}
    assert created["job"] == [{**job, **times, "result": {}, "status": "Dispatched"}]


def test_they_keep_their_order(client: Client, context: int) -> None:
    jobs = [sample("job", context, id) for id in (3, 1, 2)]

    created = client.result(*message_with(context, *jobs))

    assert [job["id"] for job in created["job"]] == [3, 1, 2]


def test_a_message_does_not_create_jobs_of_its_context(client: Client, context: int) -> None:
    client.result(*message_with(context, sample("job", context, 1)))

    assert client.error(*load("job", context, 1))["code"] == -32001


def test_when_the_message_is_created_again_they_keep_when_they_were_created_and_their_status(
    open_client: Client, open_store: ValkeyProcess, context: int
) -> None:
    message = message_with(context, sample("job", context, 1))
    open_client.result(*message)
    change_jobs(open_store, context, created_at=LONG_AGO, updated_at=LONG_AGO, status="Started")

    (job,) = open_client.result(*message)["job"]

    assert (job["created_at"], job["status"]) == (LONG_AGO, "Started")
    assert job["updated_at"] > LONG_AGO


def test_when_the_message_is_created_again_what_was_sent_of_them_is_replaced(client: Client, context: int) -> None:
    client.result(*message_with(context, sample("job", context, 1)))
    changed = sample("job", context, 1, script="another", script_type="V", retries=0, env_vars={}, depends=[4])

    (job,) = client.result(*message_with(context, changed))["job"]

    assert as_sent(job, changed) == changed


@pytest.mark.parametrize("result", [{}, {"1": "a", "2": "b"}, {'π\0/"\\\x7f': "\u2028😀\n"}])
def test_when_the_message_is_created_again_they_keep_a_result_not_given_anew(
    client: Client, context: int, result: dict[str, str]
) -> None:
    client.result(*message_with(context, sample("job", context, 1, result=result)))

    (job,) = client.result(*message_with(context, sample("job", context, 1)))["job"]

    assert job["result"] == result


def test_when_the_message_is_created_again_they_take_a_result_given_anew(client: Client, context: int) -> None:
    client.result(*message_with(context, sample("job", context, 1, result={"a": "1"})))

    (job,) = client.result(*message_with(context, sample("job", context, 1, result={})))["job"]

    assert job["result"] == {}


def test_jobs_no_longer_sent_are_gone_and_others_are_new(
    open_client: Client, open_store: ValkeyProcess, context: int
) -> None:
    open_client.result(*message_with(context, sample("job", context, 1)))
    change_jobs(open_store, context, status="Finished")
    others = [sample("job", context, 2), sample("job", context, 1, caller_id=8)]

    updated = open_client.result(*message_with(context, *others))

    assert [(job["caller_id"], job["id"], job["status"]) for job in updated["job"]] == [
        (CALLER, 2, "Dispatched"),
        (8, 1, "Dispatched"),
    ]


def test_a_fault_in_one_of_them_is_a_fault_of_the_message(client: Client, context: int) -> None:
    broken = sample("job", context, 2, retries=256)

    error = client.error(*message_with(context, sample("job", context, 1), broken))

    assert [fault["loc"] for fault in error["data"]] == [["message", "job", 1, "retries"]]
    assert client.error(*load("message", context, context))["code"] == -32001
