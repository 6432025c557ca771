"""The forms params may come in, and what faults look like."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.errors import InvalidParams
from coordinator.models import ActorCreateParams, FlowCreateParams, JobLoadParams, RunnerCreateParams
from coordinator.rpc.jsonrpc.params import ParamsReader
from coordinator.rpc.methods import METHODS

ACTOR = {"id": 1, "pubkey": "k", "address": ["::1"]}
RUNNER = {"id": 1, "pubkey": "k", "address": "10.0.0.1", "topic": "t", "local": True}


@pytest.mark.parametrize(
    "form",
    [
        {"actor": ACTOR},
        {"params": {"actor": ACTOR}},
        [{"actor": ACTOR}],
        [ACTOR],
        {"params": [ACTOR]},
        {"actor": ACTOR, "params": {"actor": {}}},
        {"actor": ACTOR, "unknown": 1},
    ],
)
def test_each_form_of_a_method_with_one_member_reads_the_same(form: Any) -> None:
    assert ParamsReader(ActorCreateParams).read(form).actor.address == ["::1"]


@pytest.mark.parametrize(
    "form",
    [
        {"context_id": 1, "runner": RUNNER},
        {"params": {"context_id": 1, "runner": RUNNER}},
        [{"context_id": 1, "runner": RUNNER}],
        [1, RUNNER],
    ],
)
def test_each_form_of_a_method_with_several_members_reads_the_same(form: Any) -> None:
    read = ParamsReader(RunnerCreateParams).read(form)

    assert (read.context_id, read.runner.topic) == (1, "t")


def test_numbers_by_position_are_taken_in_the_contracts_order() -> None:
    read = ParamsReader(JobLoadParams).read([1, 2, 3])

    assert (read.context_id, read.caller_id, read.id) == (1, 2, 3)


def test_too_many_positions_are_a_fault_that_names_the_members() -> None:
    with pytest.raises(InvalidParams) as caught:
        ParamsReader(JobLoadParams).read([1, 2, 3, 4])

    assert "context_id, caller_id, id" in caught.value.data[0]["msg"]


def test_faults_have_a_place_a_message_and_a_type() -> None:
    with pytest.raises(InvalidParams) as caught:
        ParamsReader(JobLoadParams).read({"context_id": "1", "caller_id": 2**32})

    assert [(fault["loc"], fault["type"]) for fault in caught.value.data] == [
        (["context_id"], "int_type"),
        (["caller_id"], "less_than_equal"),
        (["id"], "missing"),
    ]


def test_a_million_faults_are_reported_as_one() -> None:
    flow = {"id": 1, "caller_id": 1, "context_id": 1, "jobs": ["x"] * 1_000_000, "env_vars": {}}

    with pytest.raises(InvalidParams) as caught:
        ParamsReader(FlowCreateParams, "flow").read({"context_id": 1, "flow": flow})

    assert [fault["loc"] for fault in caught.value.data] == [["flow", "jobs", 0]]


def test_differing_contexts_are_both_named() -> None:
    flow = {"id": 1, "caller_id": 1, "context_id": 2, "jobs": [], "env_vars": {}}

    with pytest.raises(InvalidParams) as caught:
        ParamsReader(FlowCreateParams, "flow").read([1, flow])

    assert caught.value.data[0]["loc"] == ["flow", "context_id"]
    assert "context_id 2" in caught.value.data[0]["msg"]
    assert "context_id 1" in caught.value.data[0]["msg"]


def test_no_method_has_a_member_called_params() -> None:
    # Were there one, `{"params": …}` would mean two things.
    assert all("params" not in method.params.model_fields for method in METHODS.values())
