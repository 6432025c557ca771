"""What a context keeps apart, and which context a record goes to."""

from __future__ import annotations

import pytest

from tests.support.clients import Client
from tests.support.records import KINDS, create, fresh_id, load, sample

IN_CONTEXT = [kind for kind in KINDS if kind not in ("actor", "context")]
NAMING_THEIR_CONTEXT = ("flow", "job", "message")


@pytest.mark.parametrize("kind", IN_CONTEXT)
def test_a_context_needs_no_record_of_its_own(client: Client, context: int, kind: str) -> None:
    created = client.result(*create(kind, context, sample(kind, context, 1)))

    assert client.error(*load("context", context, context))["code"] == -32001
    assert client.result(*load(kind, context, 1)) == created


@pytest.mark.parametrize("kind", IN_CONTEXT)
def test_a_record_is_in_its_own_context_only(client: Client, context: int, kind: str) -> None:
    client.result(*create(kind, context, sample(kind, context, 1)))

    assert client.error(*load(kind, fresh_id(), 1))["code"] == -32001


@pytest.mark.parametrize("kind", NAMING_THEIR_CONTEXT)
def test_a_record_that_names_another_context_is_refused_naming_both(client: Client, context: int, kind: str) -> None:
    other = fresh_id()

    error = client.error(*create(kind, context, sample(kind, other, 1)))

    (fault,) = error["data"]
    assert error["code"] == -32602
    assert (fault["loc"], fault["type"]) == ([kind, "context_id"], "context_mismatch")
    assert f"context_id {other}" in fault["msg"]
    assert f"context_id {context}" in fault["msg"]
    for place in (context, other):
        assert client.error(*load(kind, place, 1))["code"] == -32001


def test_a_messages_job_that_names_another_context_is_refused_naming_both(client: Client, context: int) -> None:
    other = fresh_id()
    jobs = [sample("job", context, 1), sample("job", other, 2)]

    error = client.error(*create("message", context, sample("message", context, 1, job=jobs)))

    (fault,) = error["data"]
    assert fault["loc"] == ["message", "job", 1, "context_id"]
    assert f"context_id {other}" in fault["msg"]
    assert f"context_id {context}" in fault["msg"]
    assert client.error(*load("message", context, 1))["code"] == -32001


def test_a_submitted_job_that_names_another_context_is_refused_naming_both(client: Client, context: int) -> None:
    other = fresh_id()
    jobs = [sample("job", context, 1), sample("job", other, 2)]
    flow = sample("flow", context, 1, jobs=[1, 2])

    error = client.error("flow.submit", {"context_id": context, "flow": flow, "jobs": jobs})

    (fault,) = error["data"]
    assert (fault["loc"], fault["type"]) == (["jobs", 1, "context_id"], "context_mismatch")
    assert f"context_id {other}" in fault["msg"]
    assert client.error(*load("flow", context, 1))["code"] == -32001


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"name": "a\nb"}, ["job", "name"]),
        ({"tags": ["a\nb"]}, ["job", "tags", 0]),
        ({"tags": 5}, ["job", "tags"]),
        ({"lost_retries": "x"}, ["job", "lost_retries"]),
        ({"env_vars": {"A": 1}}, ["job", "env_vars", "A"]),
        ({"script": None}, ["job", "script"]),
    ],
)
def test_a_fault_is_told_once_at_its_place_in_what_was_given(
    client: Client, context: int, changes: dict[str, object], place: list[str | int]
) -> None:
    error = client.error("job.create", {"context_id": context, "job": sample("job", context, 1) | changes})

    assert [fault["loc"] for fault in error["data"]] == [place]


def test_a_context_beyond_the_stores_databases_is_a_storage_error_that_names_the_way_out(client: Client) -> None:
    error = client.error(*load("context", 2**32 - 1, 0))

    assert error["code"] == -32010
    assert "--isolation prefix" in error["data"]["detail"]
