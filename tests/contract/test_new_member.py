"""A member that is added to a job's model reaches every method by that one edit: a copy of the package gets two."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import coordinator as package
from tests.support.flows import fields_of_job, submission
from tests.support.server import coordinator

CONTEXT = 3
EDITED = 'depends: Annotated[UInt32List, Field(description="Ids of jobs that must finish first")]\n'
ADDED = """\
    colour: Annotated[str | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
    weights: list[int] = Field(default_factory=lambda: [1])
"""
GIVEN: dict[str, Any] = {"colour": 'a "b" \0 c', "weights": [3, 4]}
LEFT_OUT: dict[str, Any] = {
    "colour": None,
    "weights": [1],
}  # what is loaded of a job without them; None: it has no such member


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A coordinator whose jobs have two members more."""
    directory = tmp_path_factory.mktemp("edited")
    copy = directory / "coordinator"
    shutil.copytree(Path(package.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    contract = copy / "models" / "contract.py"
    source = contract.read_text()
    assert source.count(EDITED) == 1
    contract.write_text(source.replace(EDITED, EDITED + ADDED))
    env = {"PYTHONPATH": str(directory), "PYTHONSAFEPATH": "1"}  # so the working directory's package is not found first
    with coordinator("--data-dir", str(directory / "data"), env=env) as server:
        yield server.http


def call(url: str, method: str, **params: Any) -> Any:
    reply = httpx.post(url, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, verify=False).json()
    assert "error" not in reply, reply
    return reply["result"]


def members_of(job: dict[str, Any]) -> dict[str, Any]:
    return {name: job.get(name) for name in GIVEN}


@pytest.mark.parametrize(("given", "stored"), [(GIVEN, GIVEN), ({}, LEFT_OUT), ({"colour": None}, LEFT_OUT)])
def test_it_is_created_updated_and_loaded(url: str, given: dict[str, Any], stored: dict[str, Any]) -> None:
    id = 100 + len(given)
    created = call(url, "job.create", context_id=CONTEXT, job=fields_of_job(CONTEXT, id, **given))
    assert members_of(created) == stored

    again = call(url, "job.create", context_id=CONTEXT, job=fields_of_job(CONTEXT, id))
    assert members_of(again) == stored, "what is left out of an update stays"
    assert members_of(call(url, "job.load", context_id=CONTEXT, caller_id=7, id=id)) == stored
    (listed,) = [job for job in call(url, "job.list", context_id=CONTEXT)["items"] if job["id"] == id]
    assert members_of(listed) == stored


def take(url: str) -> list[dict[str, Any]]:
    call(url, "runner.create", context_id=CONTEXT, runner=RUNNER)
    jobs = call(url, "job.take", context_id=CONTEXT, runner_id=3, script_types=["Python"], count=10)["jobs"]
    for taken in jobs:
        job = taken["job"]
        ids = {"context_id": CONTEXT, "caller_id": 7, "id": job["id"], "token": taken["token"]}
        call(url, "job.finish", **ids, result={})
    return [taken["job"] for taken in jobs]


RUNNER = {"id": 3, "pubkey": "", "address": "127.0.0.1", "topic": "runner3", "local": True}


def test_it_is_submitted_with_a_flow_and_handed_to_a_runner(url: str) -> None:
    params = submission(CONTEXT, {1: [], 2: []}, flow=1)
    params["jobs"][0].update(GIVEN)
    call(url, "flow.submit", **params)

    assert members_of(call(url, "job.load", context_id=CONTEXT, caller_id=7, id=1)) == GIVEN
    assert {job["id"]: members_of(job) for job in take(url)} == {1: GIVEN, 2: LEFT_OUT}


def test_a_flow_of_jobs_that_are_there_keeps_it_unless_it_is_given(url: str) -> None:
    for id in (11, 12):
        call(url, "job.create", context_id=CONTEXT, job=fields_of_job(CONTEXT, id, **GIVEN))
    params = submission(CONTEXT, {11: [], 12: []}, flow=2)
    params["jobs"][1]["weights"] = [9]
    call(url, "flow.submit", **params)

    assert {job["id"]: members_of(job) for job in take(url)} == {11: GIVEN, 12: {**GIVEN, "weights": [9]}}


def test_it_goes_with_a_message(url: str) -> None:
    message = {
        "id": 5,
        "caller_id": 7,
        "context_id": CONTEXT,
        "message": "",
        "message_type": "Python",
        "message_format_type": "Text",
        "timeout": 0,
        "timeout_ack": 0,
        "timeout_result": 0,
        "job": [fields_of_job(CONTEXT, 21, **GIVEN), fields_of_job(CONTEXT, 22)],
    }
    created = call(url, "message.create", context_id=CONTEXT, message=message)
    assert members_of(created["job"][0]) == GIVEN
    call(url, "message.send", context_id=CONTEXT, caller_id=7, id=5)

    assert {job["id"]: members_of(job) for job in take(url)} == {21: GIVEN, 22: LEFT_OUT}


def test_it_is_in_the_document(url: str) -> None:
    schemas = call(url, "rpc.discover")["components"]["schemas"]
    for name in ("Job", "JobCreate"):
        assert {"colour", "weights"} <= schemas[name]["properties"].keys()
        assert not {"colour", "weights"} & set(schemas[name]["required"])
