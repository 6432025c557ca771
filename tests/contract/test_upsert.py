"""Creating is creating or updating: what a record is at first, and what stays of it when it is created again."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from tests.support.clients import Client
from tests.support.records import CALLER, KINDS, Record, as_sent, create, load, sample
from tests.support.server import ValkeyProcess

LONG_AGO = 1_000_000_000

WITH_STATUS = ("flow", "job", "message")
WITH_RESULT = ("flow", "job")

AGAIN: dict[str, Record] = {
    "actor": {"pubkey": "another", "address": []},
    "context": {"admins": [], "readers": [1], "executors": [2, 3]},
    "runner": {"pubkey": "another", "address": "10.0.0.3", "topic": "", "local": False},
    "flow": {"jobs": [5, 5, 4], "env_vars": {}},
    "job": {
        "script": "",
        "script_type": "V",
        "timeout": 0,
        "retries": 255,
        "env_vars": {"A": "1", "B": "2"},
        "prerequisites": [],
        "depends": [9],
    },
    "message": {
        "message": "",
        "message_type": "Osis",
        "message_format_type": "Html",
        "timeout": 0,
        "timeout_ack": 2**32 - 1,
        "timeout_result": 1,
        "job": [],
    },
}
"""Every member that is replaced, changed."""


class Stored:
    """A record as it lies in the store, to be changed as time and other programs change it."""

    def __init__(self, store: ValkeyProcess, kind: str, context: int) -> None:
        of_caller = f"{CALLER}:" if kind in ("job", "message") else ""
        self._redis: redis.Redis = store.client(0 if kind == "actor" else context)
        self._key = f"{kind}:{of_caller}{context}"

    def set(self, **fields: str | int) -> None:
        assert self._redis.exists(self._key)
        for field, value in fields.items():
            self._redis.hset(self._key, field, str(value))

    def age(self) -> None:
        """As if it had been created long ago."""
        self.set(created_at=LONG_AGO, updated_at=LONG_AGO)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_record_was_updated_when_it_was_created(client: Client, context: int, kind: str) -> None:
    created = client.result(*create(kind, context, sample(kind, context, context)))

    assert created["updated_at"] == created["created_at"] > LONG_AGO


@pytest.mark.parametrize("kind", WITH_STATUS)
def test_a_new_record_is_dispatched(client: Client, context: int, kind: str) -> None:
    created = client.result(*create(kind, context, sample(kind, context, context)))

    assert created["status"] == "Dispatched"


@pytest.mark.parametrize("kind", WITH_RESULT)
@pytest.mark.parametrize("given", [{}, {"result": {}}, {"result": {"a": "1"}}])
def test_a_new_record_has_the_result_given_or_an_empty_one(
    client: Client, context: int, kind: str, given: Record
) -> None:
    created = client.result(*create(kind, context, sample(kind, context, context, **given)))

    assert created["result"] == given.get("result", {})


@pytest.mark.parametrize("given", [{}, {"logs": []}, {"logs": ["a", "b"]}])
def test_a_new_message_has_the_logs_given_or_none(client: Client, context: int, given: Record) -> None:
    created = client.result(*create("message", context, sample("message", context, context, **given)))

    assert created["logs"] == given.get("logs", [])


@pytest.mark.parametrize("kind", KINDS)
def test_created_again_everything_sent_is_replaced(client: Client, context: int, kind: str) -> None:
    client.result(*create(kind, context, sample(kind, context, context)))
    changed = sample(kind, context, context, **AGAIN[kind])

    updated = client.result(*create(kind, context, changed))

    assert as_sent(updated, changed) == changed
    assert client.result(*load(kind, context, context)) == updated


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sent_behind_it_finds_what_was_created_again(client: Client, context: int, kind: str) -> None:
    embedded = {"job": [sample("job", context, 1, script=""), sample("job", context, 2)]} if kind == "message" else {}
    client.result(*create(kind, context, sample(kind, context, context, **embedded)))
    changed = sample(kind, context, context, **{**AGAIN[kind], **embedded})

    updated, loaded = client.results([create(kind, context, changed), load(kind, context, context)])

    assert as_sent(loaded, changed) == as_sent(updated, changed)


@pytest.mark.parametrize("kind", KINDS)
def test_created_again_it_keeps_when_it_was_created_and_is_updated_now(
    open_client: Client, open_store: ValkeyProcess, context: int, kind: str
) -> None:
    create_it = create(kind, context, sample(kind, context, context))
    first = open_client.result(*create_it)
    Stored(open_store, kind, context).age()

    again = open_client.result(*create_it)

    assert again["created_at"] == LONG_AGO
    assert again["updated_at"] >= first["updated_at"] > LONG_AGO


@pytest.mark.parametrize("kind", WITH_STATUS)
def test_created_again_it_keeps_its_status(
    open_client: Client, open_store: ValkeyProcess, context: int, kind: str
) -> None:
    create_it = create(kind, context, sample(kind, context, context))
    open_client.result(*create_it)
    Stored(open_store, kind, context).set(status="Error")

    again = open_client.result(*create_it)

    assert again["status"] == "Error"


@pytest.mark.parametrize(
    ("kind", "member", "given"),
    [*((kind, "result", {"answer": "42"}) for kind in WITH_RESULT), ("message", "logs", ["received"])],
)
def test_created_again_without_a_result_it_keeps_the_one_it_has(
    client: Client, context: int, kind: str, member: str, given: Any
) -> None:
    client.result(*create(kind, context, sample(kind, context, context, **{member: given})))

    again = client.result(*create(kind, context, sample(kind, context, context)))

    assert again[member] == given


@pytest.mark.parametrize(
    ("kind", "member", "given"), [*((kind, "result", {}) for kind in WITH_RESULT), ("message", "logs", [])]
)
def test_created_again_with_a_result_it_has_that(
    client: Client, context: int, kind: str, member: str, given: Any
) -> None:
    client.result(*create(kind, context, sample(kind, context, context, **{member: type(given)(["ab"])})))

    again = client.result(*create(kind, context, sample(kind, context, context, **{member: given})))

    assert again[member] == given


@pytest.mark.parametrize("kind", WITH_STATUS)
def test_what_only_the_coordinator_sets_is_ignored_when_sent(client: Client, context: int, kind: str) -> None:
    record = sample(kind, context, context, status="Finished", created_at=1, updated_at=2, transport_id="t")

    created = client.result(*create(kind, context, record))

    assert created["status"] == "Dispatched"
    assert created["updated_at"] == created["created_at"] > LONG_AGO
    assert "transport_id" not in created


def test_a_message_has_no_transport_members_until_there_are_values_for_them(
    open_client: Client, open_store: ValkeyProcess, context: int
) -> None:
    message = create("message", context, sample("message", context, context))
    created = open_client.result(*message)
    Stored(open_store, "message", context).set(transport_id="t-1", transport_status="Sent")

    again = open_client.result(*message)

    assert not {"transport_id", "transport_status"} & created.keys()
    assert (again["transport_id"], again["transport_status"]) == ("t-1", "Sent")


def test_records_of_one_id_but_different_callers_are_different(client: Client, context: int) -> None:
    mine = sample("job", context, 1, script="mine")
    yours = sample("job", context, 1, script="yours", caller_id=8)

    client.results([create("job", context, mine), create("job", context, yours)])

    assert client.result(*load("job", context, 1))["script"] == "mine"
    assert client.result(*load("job", context, 1, caller_id=8))["script"] == "yours"


def test_a_record_as_it_is_stored(open_client: Client, open_store: ValkeyProcess, context: int) -> None:
    job = sample("job", context, 1, env_vars={"A": "1"})

    created = open_client.result(*create("job", context, job))

    fields: Any = open_store.client(context).hgetall(f"job:{CALLER}:1")
    texts = {"script", "script_type", "status"}
    stored: Record = {name: text if name in texts else json.loads(text) for name, text in fields.items()}
    told = {"id", "caller_id", "context_id", "updated_at"}  # by the key, and by when it was created
    assert stored.keys().isdisjoint({*told, "depends", "result"})
    assert {**job, "result": {}, **stored, "updated_at": stored["created_at"]} == created
