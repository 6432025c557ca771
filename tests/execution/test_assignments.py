"""What a runner is told of an attempt, rendered from the store's reply."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coordinator.engine.assignments import take
from coordinator.models import Job
from coordinator.storage.fields import JOB_ASSIGNED, NOT_GIVEN
from tests.execution.by_hand import KEYS, STORED_JOB
from tests.execution.driver import RUNNER, Runner


def assigned(
    *,
    env_vars: bytes = b"{}",
    flow_env: bytes = b"{}",
    inputs: bytes = b"{}",
    script: bytes = b"print(1)",
    run: bytes = b"flow:4",
) -> Any:
    """The assignment made of an attempt as the store tells of it."""
    stored = {**STORED_JOB, b"env_vars": env_vars, b"script": script}
    record = [stored.get(name.encode(), NOT_GIVEN) for name in JOB_ASSIGNED]
    told = b"\0".join([b"2", b"9-1", b"job:7:1", run, flow_env, inputs, b"1000", b"", b"", b"", *record])
    taking = take(KEYS, Runner(lease=2.5), count=1, holder="h", number="1")
    next(taking)
    with pytest.raises(StopIteration) as finished:
        taking.send([[[b"all", [told]], []]])
    _, ((token, members),), _ = finished.value.value
    assert token == "9-1"
    return json.loads(b"{" + members)


def test_an_assignment_has_the_job_the_attempt_and_the_lease() -> None:
    assignment = assigned()

    assert assignment["job"]["id"] == 1
    required = {name for name, member in Job.model_fields.items() if member.is_required()}
    assert assignment["job"].keys() == required
    assert (assignment["attempt"], assignment["token"], assignment["lease"]) == (2, "9-1", 2.5)
    assert assignment["context_id"] == 1


def test_it_names_the_flow_but_no_message() -> None:
    assert assigned()["flow_id"] == 4
    assert "flow_id" not in assigned(run=b"message:7:4")


@pytest.mark.parametrize(
    ("flow", "own", "merged"),
    [
        (b"{}", b"{}", {}),
        (b'{"A":"flow"}', b"{}", {"A": "flow"}),
        (b"{}", b'{"A":"job"}', {"A": "job"}),
        (b'{"A":"flow","B":"flow"}', b'{"A":"job","C":"job"}', {"A": "job", "B": "flow", "C": "job"}),
    ],
)
def test_the_jobs_environment_lies_over_the_flows(flow: bytes, own: bytes, merged: dict[str, str]) -> None:
    assert assigned(env_vars=own, flow_env=flow)["env_vars"] == merged


def test_inputs_are_by_the_id_of_the_job_they_come_from() -> None:
    assert assigned(inputs=b'{"3":{"x":"1"},"4":{}}')["inputs"] == {"3": {"x": "1"}, "4": {}}


def test_a_script_may_have_whatever_text_can_have() -> None:
    assert assigned(script=b'a "b"\0\n\0c')["job"]["script"] == 'a "b"\0\n\0c'


def test_a_take_looks_on_while_it_has_met_only_entries_that_lead_nowhere() -> None:
    operation = take(KEYS, RUNNER, count=1, holder="h", number="1")
    first = next(operation)

    assert operation.send([([b"more", []], [b"ready:Sal"])]) == first

    with pytest.raises(StopIteration) as finished:
        operation.send([([b"all", []], [b"due:5"])])
    assert finished.value.value == (True, [], [b"ready:Sal", b"due:5"])


@pytest.mark.parametrize(("kind", "is_all"), [(b"all", True), (b"again", False)])
def test_a_take_that_is_repeated_does_not_say_that_the_queues_are_empty(kind: bytes, is_all: bool) -> None:
    operation = take(KEYS, RUNNER, count=1, holder="h", number="1")
    next(operation)

    with pytest.raises(StopIteration) as finished:
        operation.send([([kind, []], [])])

    assert finished.value.value[0] is is_all
