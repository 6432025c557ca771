"""Filters of lists by those who see a part: what is hidden in a load is hidden in a list, and no filter tells it."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.models import FlowListParams, JobListParams
from tests.access import callers
from tests.access.callers import caller
from tests.access.conftest import CONTEXT, EXECUTOR, OTHER_EXECUTOR
from tests.support.server import CoordinatorProcess

OF = {"context_id": CONTEXT}
TAG = "lists"


@pytest.fixture(scope="module")
def records(guarded: CoordinatorProcess, tokens: dict[str, str | None]) -> None:
    """A flow with a job of each of two executors."""
    for role, id, at in (("executor", EXECUTOR, 70_001), ("other executor", OTHER_EXECUTOR, 70_002)):
        job = {**callers.job(CONTEXT, id, at, script_type="V"), "name": f"job {at}", "tags": [TAG]}
        flow = {**callers.flow(CONTEXT, id, at, [at]), "name": f"flow {at}", "tags": [TAG]}
        with caller(guarded, "http", tokens[role]) as one:
            one.result("flow.submit", {**OF, "flow": flow, "jobs": [job]})


@pytest.mark.usefixtures("records")
def test_a_filtered_list_says_as_little_as_a_load(
    guarded: CoordinatorProcess, tokens: dict[str, str | None], transport: str
) -> None:
    for role in ("executor", "reader"):
        with caller(guarded, transport, tokens[role]) as one:
            for kind in ("job", "flow"):
                for asked in (
                    {"tag": TAG},
                    {"tag": TAG, "sort": "created", "descending": True},
                    {"name_prefix": f"{kind} 7000"},
                ):
                    items = one.result(f"{kind}.list", {**OF, **asked})["items"]
                    assert sorted(item["id"] for item in items) == [70_001, 70_002]
                    for item in items:
                        ids = {"id": item["id"]} | ({"caller_id": item["caller_id"]} if kind == "job" else {})
                        assert item == one.result(f"{kind}.load", {**OF, **ids})
                        is_shown = role == "executor" and item["caller_id"] == EXECUTOR
                        assert ("SECRET" in item["env_vars"]) == is_shown
            assert one.result("context.stats", OF)["flows"]["Started"] >= 2
            for id in (EXECUTOR, OTHER_EXECUTOR):
                answer = one.result(
                    "job.attempts", {**OF, "caller_id": id, "id": 70_000 + (1 if id == EXECUTOR else 2)}
                )
                assert answer == {"attempts": []}


@pytest.mark.usefixtures("records")
def test_who_may_not_list_may_not_by_a_filter_either(
    guarded: CoordinatorProcess, tokens: dict[str, str | None]
) -> None:
    for role in ("runner", "stranger", "member elsewhere"):
        with caller(guarded, "http", tokens[role]) as one:
            plain = one.code("job.list", OF)
            assert plain in (-32003, -32001)
            for method in ("job.list", "flow.list"):
                assert one.code(method, {**OF, "tag": TAG, "sort": "ended"}) == plain
            for method, params in (
                ("context.stats", OF),
                ("job.attempts", {**OF, "caller_id": EXECUTOR, "id": 70_001}),
            ):
                assert one.code(method, params) == plain


def test_a_filter_looks_at_nothing_that_is_hidden_from_anybody() -> None:
    """A member that some may not see, such as env_vars or a script's result, must not become one to filter by."""
    seen: set[Any] = {*JobListParams.model_fields, *FlowListParams.model_fields} - {"context_id", "cursor", "limit"}
    assert seen == {
        *("status", "statuses", "name_prefix", "tag", "caller_id", "runner_id", "sort", "descending"),
        *("created_from", "created_to", "ended_from", "ended_to"),
    }
