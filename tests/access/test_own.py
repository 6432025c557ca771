"""What is allowed in part: an executor's own records, a runner's own attempts, an actor's own key, what readers see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest

from coordinator.rpc.access.judge import CONTEXTS_LOOKED_AT
from tests.access import callers
from tests.access.callers import Caller, caller
from tests.access.conftest import (
    ADMIN,
    CONTEXT,
    EXECUTOR,
    NO_CONTEXT,
    OTHER_CONTEXT,
    OTHER_EXECUTOR,
    READER,
    RUNNER,
    STRANGER,
)
from tests.support.server import CoordinatorProcess

As = Callable[[str], Caller]
OF = {"context_id": CONTEXT}
FORBIDDEN, STALE, INVALID = -32003, -32041, -32602
_ids = count(10_000)


@pytest.fixture
def as_(guarded: CoordinatorProcess, tokens: dict[str, str | None], transport: str) -> Iterator[As]:
    """A client of this role."""
    with ExitStack() as stack:
        known: dict[str, Caller] = {}

        def of(role: str) -> Caller:
            if role not in known:
                known[role] = stack.enter_context(caller(guarded, transport, tokens[role]))
            return known[role]

        yield of


def submit(one: Caller, caller_id: int, **more: Any) -> tuple[int, int]:
    """A flow of one job that was submitted: its id, and the job's."""
    id = next(_ids)
    jobs = [callers.job(CONTEXT, caller_id, id, **more)]
    one.result("flow.submit", {**OF, "flow": callers.flow(CONTEXT, caller_id, id, [id]), "jobs": jobs})
    return id, id


def foreign(caller_id: int, id: int) -> list[tuple[str, Any]]:
    """Calls that would write something of this caller."""
    job = callers.job(CONTEXT, caller_id, id)
    own = callers.job(CONTEXT, EXECUTOR, id)
    flow = callers.flow(CONTEXT, caller_id, id, [id])
    return [
        ("job.create", {**OF, "job": job}),
        ("flow.create", {**OF, "flow": flow}),
        ("flow.submit", {**OF, "flow": flow, "jobs": [job]}),
        ("message.create", {**OF, "message": callers.message(CONTEXT, caller_id, id, [])}),
        ("message.create", {**OF, "message": callers.message(CONTEXT, EXECUTOR, id, [own, job])}),
        ("message.create", {**OF, "message": callers.message(CONTEXT, caller_id, id, [own])}),
        ("message.send", {**OF, "caller_id": caller_id, "id": id}),
        ("message.delete", {**OF, "caller_id": caller_id, "id": id}),
        ("job.delete", {**OF, "caller_id": caller_id, "id": id}),
    ]


def test_an_executor_writes_nothing_of_another(as_: As) -> None:
    for method, params in foreign(OTHER_EXECUTOR, next(_ids)):
        error = as_("executor").error(method, params)
        assert error["code"] == FORBIDDEN, method
        assert error["data"]["right"]


def test_a_foreign_job_in_a_flow_is_refused(as_: As) -> None:
    id = next(_ids)
    params = {
        **OF,
        "flow": callers.flow(CONTEXT, EXECUTOR, id, [id]),
        "jobs": [callers.job(CONTEXT, OTHER_EXECUTOR, id)],
    }

    assert as_("executor").code("flow.submit", params) == FORBIDDEN


def test_a_flow_of_another_is_left_alone_although_its_id_is_all_that_names_it(as_: As) -> None:
    id, _ = submit(as_("other executor"), OTHER_EXECUTOR)

    for method in ("flow.start", "flow.retry", "flow.cancel", "flow.delete"):
        assert as_("executor").code(method, {**OF, "id": id}) == FORBIDDEN, method
    mine = callers.flow(CONTEXT, EXECUTOR, id, [])
    assert as_("executor").code("flow.create", {**OF, "flow": mine}) == FORBIDDEN
    assert as_("executor").code("flow.create", {**OF, "flow": mine, "abandon_after": 1.0}) == FORBIDDEN
    submitted = {**OF, "flow": {**mine, "jobs": [id]}, "jobs": [callers.job(CONTEXT, EXECUTOR, id)]}
    assert as_("executor").code("flow.submit", submitted) == FORBIDDEN
    for method in ("prerequisite.satisfy", "prerequisite.revoke"):
        assert as_("executor").code(method, {**OF, "name": "p", "flow_id": id}) == FORBIDDEN
        assert as_("executor").code(method, {**OF, "name": "p"}) == FORBIDDEN
    assert as_("executor").result("flow.load", {**OF, "id": id})["status"] == "Started"
    assert as_("other executor").result("flow.cancel", {**OF, "id": id})["status"] == "Error"


def test_a_large_flow_of_another_is_left_alone(as_: As) -> None:
    id, _ = submit(as_("other executor"), OTHER_EXECUTOR)
    jobs = [callers.job(CONTEXT, EXECUTOR, at) for at in [next(_ids) for _ in range(250)]]
    flow = callers.flow(CONTEXT, EXECUTOR, id, [job["id"] for job in jobs])

    assert as_("executor").code("flow.submit", {**OF, "flow": flow, "jobs": jobs}) == FORBIDDEN
    params = {**OF, "flow": {**flow, "id": next(_ids)}, "jobs": jobs}
    assert as_("executor").result("flow.submit", params)["status"] == "Started"


def test_what_runs_is_not_changed_by_its_executor(as_: As) -> None:
    id, job = submit(as_("executor"), EXECUTOR)

    again = as_("executor").error("job.create", {**OF, "job": callers.job(CONTEXT, EXECUTOR, job)})
    assert again["code"] == FORBIDDEN
    assert "running" in again["data"]["detail"]
    assert as_("executor").code("flow.create", {**OF, "flow": callers.flow(CONTEXT, EXECUTOR, id, [])}) == FORBIDDEN
    assert "result" in as_("admin").call("job.create", {**OF, "job": callers.job(CONTEXT, EXECUTOR, job)})
    assert as_("executor").result("flow.cancel", {**OF, "id": id})["status"] == "Error"
    assert as_("executor").result("flow.delete", {**OF, "id": id})["deleted"] == 2


def test_a_submission_that_is_sent_again_is_answered_the_same(as_: As) -> None:
    id = next(_ids)
    params = {
        **OF,
        "flow": callers.flow(CONTEXT, EXECUTOR, id, [id]),
        "jobs": [callers.job(CONTEXT, EXECUTOR, id)],
    }

    assert as_("executor").result("flow.submit", params)["id"] == as_("executor").result("flow.submit", params)["id"]


def test_a_message_with_jobs_of_another_is_not_sent_or_deleted(as_: As) -> None:
    id = next(_ids)
    jobs = [callers.job(CONTEXT, OTHER_EXECUTOR, id, script='"caller_id":2')]
    as_("admin").result("message.create", {**OF, "message": callers.message(CONTEXT, EXECUTOR, id, jobs)})

    named = {**OF, "caller_id": EXECUTOR, "id": id}
    assert as_("executor").code("message.send", named) == FORBIDDEN
    assert as_("executor").code("message.delete", named) == FORBIDDEN
    assert as_("admin").result("message.delete", named)["deleted"] == 1


def test_a_text_that_looks_like_a_caller_does_not_count(as_: As) -> None:
    id = next(_ids)
    jobs = [
        callers.job(
            CONTEXT, EXECUTOR, id, script='{"caller_id":5}', env_vars={"caller_id": "5", 'x","caller_id":5': ""}
        )
    ]
    as_("executor").result("message.create", {**OF, "message": callers.message(CONTEXT, EXECUTOR, id, jobs)})

    assert "result" in as_("executor").call("message.send", {**OF, "caller_id": EXECUTOR, "id": id})


def test_env_vars_are_seen_by_their_own_executor_and_admins(as_: As) -> None:
    id, _ = submit(as_("executor"), EXECUTOR)
    message = callers.message(CONTEXT, EXECUTOR, id, [callers.job(CONTEXT, EXECUTOR, id)])
    as_("executor").result("message.create", {**OF, "message": message})
    own = {"SECRET": f"of {EXECUTOR}"}

    for role, seen in (("admin", own), ("executor", own), ("other executor", {}), ("reader", {}), ("operator", own)):
        one = as_(role)
        named = {**OF, "caller_id": EXECUTOR, "id": id}
        assert one.result("job.load", named)["env_vars"] == seen
        assert one.result("flow.load", {**OF, "id": id})["env_vars"] == seen
        assert one.result("flow.status", {**OF, "id": id})["flow"]["env_vars"] == seen
        assert [job["env_vars"] for job in one.result("message.load", named)["job"]] == [seen]
        for method in ("job.list", "flow.list", "message.list"):
            params = {**OF, "limit": 1000}
            found = [item for item in one.result(method, params)["items"] if item["id"] == id]
            assert found
            for item in found:
                assert [part["env_vars"] for part in (item, *item.get("job", [])) if "env_vars" in part].count(seen) > 0
                if seen != own:
                    assert "SECRET" not in str(item)


def test_readers_see_no_admins_and_no_addresses(as_: As) -> None:
    assert as_("reader").result("context.load", {"id": CONTEXT})["admins"] == []
    assert as_("executor").result("context.load", {"id": CONTEXT})["admins"] == [ADMIN]
    assert as_("reader").result("runner.load", {**OF, "id": RUNNER})["address"] == "::"
    assert {one["address"] for one in as_("reader").result("runner.list", OF)["items"]} == {"::"}
    assert as_("executor").result("runner.load", {**OF, "id": RUNNER})["address"] == "192.0.2.3"


def test_a_runner_sees_itself(as_: As) -> None:
    as_("admin").result("runner.create", callers.runner(CONTEXT, 8))

    assert as_("runner").result("runner.load", {**OF, "id": RUNNER})["id"] == RUNNER
    assert as_("runner").code("runner.load", {**OF, "id": 8}) == FORBIDDEN
    for limit in (1, 100):  # a cursor would name another
        listed = as_("runner").result("runner.list", {**OF, "limit": limit})
        assert [one["id"] for one in listed["items"]] == [RUNNER]
        assert "cursor" not in listed
    assert as_("runner").result("runner.list", {**OF, "cursor": f"{RUNNER:010d}"}) == {"items": []}


def test_contexts_are_listed_for_those_who_are_in_them(as_: As) -> None:
    for role, seen in (("executor", {CONTEXT}), ("member elsewhere", {OTHER_CONTEXT}), ("stranger", set()),
                       ("runner elsewhere", {OTHER_CONTEXT})):  # fmt: skip
        assert {*as_(role).result("context.list", {"limit": 100})["items"]} == seen
    assert {CONTEXT, OTHER_CONTEXT} <= {*as_("operator").result("context.list", {"limit": 100})["items"]}


def test_pages_of_contexts_tell_of_no_other(as_: As) -> None:
    operator, member, stranger = as_("operator"), as_("member elsewhere"), as_("stranger")
    hidden = [*range(900, 900 + CONTEXTS_LOOKED_AT + 5)]
    for id in hidden:
        operator.result("context.create", callers.context(id, admins=[ADMIN], executors=[], readers=[]))
    all = operator.result("context.list", {"limit": 1000})["items"]

    for one, seen in ((member, [OTHER_CONTEXT]), (stranger, [])):
        for limit in (1, 3, 1000):
            pages, found, cursor = 0, [], ""
            while True:
                page = one.result("context.list", {"limit": limit, "cursor": cursor})
                pages += 1
                found += page["items"]
                if "cursor" not in page:
                    break
                cursor = page["cursor"]
            assert found == seen
            assert pages <= 1 + len(seen) + len(all) / CONTEXTS_LOOKED_AT  # though a page may be shorter than that
    assert stranger.code("context.list", {"cursor": "899"}) == INVALID
    assert stranger.code("context.list", {"cursor": member.result("context.list", {"limit": 1})["cursor"]}) == INVALID
    assert operator.result("context.list", {"cursor": "899", "limit": 1})["items"] == hidden[:1]


def test_actors_are_loaded_by_themselves_and_admins_of_theirs(as_: As) -> None:
    assert as_("reader").result("actor.load", {"id": READER})["id"] == READER
    assert as_("reader").code("actor.load", {"id": ADMIN}) == FORBIDDEN
    assert as_("reader").code("actor.load", {"id": ADMIN, "context_id": CONTEXT}) == FORBIDDEN
    assert as_("admin").code("actor.load", {"id": READER}) == FORBIDDEN
    assert as_("admin").result("actor.load", {"id": READER, "context_id": CONTEXT})["id"] == READER
    assert as_("admin").code("actor.load", {"id": STRANGER, "context_id": CONTEXT}) == FORBIDDEN
    assert as_("admin").code("actor.load", {"id": READER, "context_id": OTHER_CONTEXT}) == -32001
    # Actor 7 is somebody else than runner 7, wherever that asks.
    assert as_("runner").code("actor.load", {"id": RUNNER}) == FORBIDDEN
    assert as_("runner").code("actor.load", {"id": RUNNER, "context_id": CONTEXT}) == FORBIDDEN
    for elsewhere in (OTHER_CONTEXT, NO_CONTEXT):
        assert as_("runner").code("actor.load", {"id": RUNNER, "context_id": elsewhere}) == -32001


def test_an_attempt_is_its_runner_s(as_: As, guarded: CoordinatorProcess, tokens: dict[str, str | None]) -> None:
    as_("admin").result("runner.create", callers.runner(CONTEXT, 8))
    token8 = as_("admin").result("token.create", {"label": "8", "principal": f"runner:{CONTEXT}:8"})["token"]
    submit(as_("executor"), EXECUTOR, script_type="Sal")
    take = {**OF, "script_types": ["Sal"], "take_id": f"take{next(_ids)}", "count": 9}
    taken = as_("runner").result("job.take", {**take, "runner_id": RUNNER})
    assignment = taken["jobs"][-1]
    named = {**OF, "caller_id": EXECUTOR, "id": assignment["job"]["id"], "token": assignment["token"]}
    assert assignment["env_vars"] == {"SECRET": f"of {EXECUTOR}"}

    with caller(guarded, "http", token8) as other:
        assert other.code("job.take", {**OF, "runner_id": RUNNER, "script_types": ["Sal"]}) == FORBIDDEN
        again = other.result("job.take", {**take, "runner_id": 8})
        assert again["jobs"] == []
        for method, more in (
            *(("job.heartbeat", {}), ("job.log", {"lines": ["x"]}), ("job.inputs", {}), ("job.finish", {})),
            ("job.fail", {"error": "x"}),
        ):
            assert other.code(method, {**named, **more}) == STALE, method
    with caller(guarded, "http", tokens["runner elsewhere"]) as elsewhere:
        assert elsewhere.code("job.finish", named) == -32001
        assert elsewhere.code("job.finish", {**named, "context_id": OTHER_CONTEXT}) == -32001  # no such job there
    assert as_("runner").result("job.inputs", named)["inputs"] == {}
    assert as_("runner").result("job.log", {**named, "lines": ["hello"]})["lines"] == 1
    assert as_("runner").result("job.heartbeat", named)["lease"] == 30.0
    assert as_("runner").result("job.finish", {**named, "result": {"a": "b"}})["status"] == "Finished"
    assert as_("runner").result("job.finish", {**named, "result": {"a": "b"}})["status"] == "Finished"


def test_readers_see_no_log_lines(as_: As) -> None:
    id, _ = submit(as_("executor"), EXECUTOR, script_type="Osis")
    taken = as_("runner").result("job.take", {**OF, "runner_id": RUNNER, "script_types": ["Osis"], "count": 9})
    assignment = taken["jobs"][-1]
    named = {**OF, "caller_id": EXECUTOR, "id": assignment["job"]["id"], "token": assignment["token"]}
    as_("runner").result("job.log", {**named, "lines": ["a secret"]})

    kinds = {event["kind"] for event in as_("executor").result("flow.events", {**OF, "id": id})["events"]}
    seen = {event["kind"] for event in as_("reader").result("flow.events", {**OF, "id": id})["events"]}
    assert kinds - seen == {"log"}
    assert as_("reader").code("job.tail", {**OF, "caller_id": EXECUTOR, "id": id}) == FORBIDDEN
    assert "a secret" in str(as_("executor").result("job.tail", {**OF, "caller_id": EXECUTOR, "id": id}))
    reader = as_("reader")
    if reader.ws is not None:
        reader.result("flow.subscribe", {**OF, "id": id})
        as_("runner").result("job.finish", named)
        told: list[Any] = []
        while not told or told[-1].get("status") != "Finished" or told[-1]["kind"] != "flow":
            told.append(reader.note("flow.event"))
        assert "log" not in {note["kind"] for note in told}


def about(id: int) -> list[tuple[str, Any]]:
    """Calls about this context."""
    return [
        ("context.load", {"id": id}),
        ("flow.list", {"context_id": id}),
        ("job.load", {"context_id": id, "caller_id": 1, "id": 1}),
        ("context.create", callers.context(id, admins=[STRANGER], executors=[], readers=[])),
        ("flow.subscribe", {"context_id": id, "id": 1}),
        ("job.take", {"context_id": id, "runner_id": 1, "script_types": ["V"]}),
    ]


def test_a_stranger_is_told_the_same_of_a_context_that_is_there_and_of_one_that_is_not(as_: As) -> None:
    contexts = CONTEXT, NO_CONTEXT, 4_000_000_000
    for calls in zip(*map(about, contexts), strict=True):
        errors = [as_("stranger").error(method, params) for method, params in calls]
        for error, id in zip(errors, contexts, strict=True):
            assert error == {
                "code": -32001,
                "message": "Not Found",
                "data": {"kind": "context", "ids": {"id": id}, "detail": f"no context with id {id}"},
            }
