"""Loading what is not there says what is not there."""

from __future__ import annotations

import pytest

from tests.support.clients import Client
from tests.support.records import CALLER, KINDS, create, dag, load, sample


@pytest.mark.parametrize("kind", KINDS)
def test_a_load_of_what_is_not_there_names_its_kind_and_ids(client: Client, context: int, kind: str) -> None:
    call = load(kind, context, context)

    error = client.error(*call)

    assert error["code"] == -32001
    assert (error["data"]["kind"], error["data"]["ids"]) == (kind, call[1])


def test_the_dag_of_a_flow_that_is_not_there_names_the_flow(client: Client, context: int) -> None:
    error = client.error(*dag(context, 1))

    assert error["code"] == -32001
    assert (error["data"]["kind"], error["data"]["ids"]) == ("flow", {"context_id": context, "id": 1})


def test_the_dag_of_a_flow_whose_job_is_not_there_names_the_job(client: Client, context: int) -> None:
    client.result(*create("job", context, sample("job", context, 1)))
    client.result(*create("job", context, sample("job", context, 2, caller_id=CALLER + 1)))
    client.result(*create("flow", context, sample("flow", context, 1, jobs=[1, 2])))

    error = client.error(*dag(context, 1))

    ids = {"context_id": context, "caller_id": CALLER, "id": 2}
    assert error["code"] == -32001
    assert (error["data"]["kind"], error["data"]["ids"]) == ("job", ids)


@pytest.mark.parametrize("kind", ["job", "message"])
def test_another_callers_record_is_not_found(client: Client, context: int, kind: str) -> None:
    client.result(*create(kind, context, sample(kind, context, 1)))

    error = client.error(*load(kind, context, 1, caller_id=CALLER + 1))

    assert error["data"]["ids"]["caller_id"] == CALLER + 1


def test_a_load_that_fails_in_a_batch_leaves_the_others_alone(client: Client, context: int) -> None:
    job = create("job", context, sample("job", context, 1))

    replies = client.batch([job, load("job", context, 2), load("job", context, 1)])

    assert ["error" in reply for reply in replies] == [False, True, False]
