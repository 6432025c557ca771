"""Names and tags of flows and jobs: given, kept, told, refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from coordinator import models
from coordinator.errors import Conflict
from tests.execution.driver import Context, job

NAME = "nightly “run” \\ 🚀"
TAGS = ["a", 'quo"ted', "with, comma"]


def called(record: Any) -> tuple[Any, Any]:
    return record.get("name"), record.get("tags")


def test_they_are_told_wherever_the_record_is(context: Context) -> None:
    made = context.submit(1, [job(1, name=NAME, tags=TAGS), job(2, [1])], name=NAME, tags=TAGS)

    loaded, listed = context.load_flow(1), context.list_flows()["items"][0]
    assert called(made) == called(loaded) == called(listed) == (NAME, TAGS)
    assert called(context.load_job(1)) == called(context.list_jobs()["items"][0]) == (NAME, TAGS)
    assert called(context.load_job(2)) == (None, None)
    assert "name" not in context.load_job(2)
    assert [progress.get("name") for progress in context.status(1)["jobs"]] == [NAME, None]
    assert called(context.take_one().assignment["job"]) == (NAME, TAGS)


def test_what_is_not_given_again_stays_and_an_empty_one_takes_its_place(context: Context) -> None:
    context.create_flow(1, [], name=NAME, tags=TAGS)
    context.create_job(1, name=NAME, tags=TAGS)

    assert called(context.create_flow(1, [])) == called(context.create_job(1)) == (NAME, TAGS)
    assert called(context.create_flow(1, [], name="", tags=[])) == ("", [])
    assert called(context.create_job(1, name="other", tags=None)) == ("other", TAGS)
    assert called(context.load_job(1)) == ("other", TAGS)


def test_a_flow_that_was_submitted_with_another_name_is_another(context: Context) -> None:
    context.submit(1, [job(1, tags=["a", "b"])], name="one")

    context.submit(1, [job(1, tags=["b", "a"])], name="one")  # the order is no content
    with pytest.raises(Conflict, match="name"):
        context.submit(1, [job(1, tags=["a", "b"])], name="two")


def test_the_jobs_of_messages_and_large_flows_have_them_too(context: Context) -> None:
    context.create_message(1, [job(1, name=NAME, tags=TAGS)])
    context.send(1)
    context.submit(2, [job(id, name=f"job {id}", tags=TAGS) for id in range(10, 220)])

    assert called(context.load_job(1)) == (NAME, TAGS)
    assert called(context.load_message(1)["job"][0]) == (NAME, TAGS)
    assert called(context.load_job(219)) == ("job 219", TAGS)


@pytest.mark.parametrize(
    "members",
    [
        {"name": "two\nlines"},
        {"name": "a\0b"},
        {"name": "turned \u202e round"},
        {"name": "x" * 101},
        {"name": 5},
        {"tags": [""]},
        {"tags": ["\x1b[2J"]},
        {"tags": ["x" * 51]},
        {"tags": ["x"] * 21},
        {"tags": "x"},
    ],
)
def test_what_is_no_short_printable_text_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        models.JobCreate.model_validate(job(1, **members))
    flow = {"id": 1, "caller_id": 7, "context_id": 1, "jobs": [], "env_vars": {}, **members}
    with pytest.raises(ValidationError):
        models.FlowCreate.model_validate(flow)
