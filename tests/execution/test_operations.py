"""The operations of running flows, by hand: what is asked of the store, and which error each outcome becomes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from coordinator import models
from coordinator.actors.request import Operation, WithEffects
from coordinator.errors import (
    Conflict,
    DagCycleDetected,
    DagMissingDependency,
    InvalidParams,
    NotFound,
    StaleToken,
)
from coordinator.operations import attempts, events, flows, messages, prerequisites, views
from tests.execution.by_hand import KEYS, STORED_FLOW, STORED_JOB, asks, ends, outcome_of, transition
from tests.execution.driver import job, message
from tests.support.exchanges import alone

FLOW = models.FlowParams(context_id=1, id=5)
ATTEMPT: dict[str, Any] = {"context_id": 1, "caller_id": 7, "id": 1, "token": "9-1"}
MESSAGE = models.MessageParams(context_id=1, caller_id=7, id=4)

FLAT_FLOW = [item for field in STORED_FLOW.items() for item in field]
CHANGED: Any = [([b"changed", b"job:7:1"], [])]
GOOD_DAG: Any = [[b"7", b"[1]"]], [[b"[]", b"[]", b"Python"]]

Method = Callable[[], Operation]


def start() -> Operation:
    return flows.start_flow(KEYS, FLOW)


def retry() -> Operation:
    return flows.retry_flow(KEYS, FLOW)


def cancel(reason: str = "") -> Operation:
    return flows.cancel_flow(KEYS, models.FlowCancelParams(context_id=1, id=5, reason=reason))


def submit(*jobs: dict[str, Any], listed: list[int] | None = None) -> Operation:
    flow = {"id": 5, "caller_id": 7, "context_id": 1, "jobs": listed or [job["id"] for job in jobs], "env_vars": {}}
    params = {"context_id": 1, "flow": flow, "jobs": list(jobs)}
    return flows.submit_flow(KEYS, models.FlowSubmitParams.model_validate(params))


def submit_one() -> Operation:
    return submit(job(1))


# -- flows


@pytest.mark.parametrize(
    ("method", "function", "arguments"),
    [
        (start, "hc_flow_start", ("flow:5",)),
        (retry, "hc_flow_retry", ("flow:5",)),
        (cancel, "hc_flow_cancel", ("flow:5", "cancelled")),
        (lambda: cancel("why"), "hc_flow_cancel", ("flow:5", "cancelled: why")),
    ],
)
def test_each_is_one_call_of_a_function(method: Method, function: str, arguments: tuple[str, ...]) -> None:
    assert transition(asks(method())) == (function, arguments)


@pytest.mark.parametrize("method", [start, retry, cancel, submit_one])
def test_what_worked_is_answered_with_the_flow_and_has_the_effects_of_its_transition(method: Method) -> None:
    operation = method()
    asks(operation)

    with pytest.raises(StopIteration) as finished:
        operation.send([([b"ok", FLAT_FLOW], [b"ready:Python"])])

    answer = finished.value.value
    assert isinstance(answer, WithEffects)
    assert answer.effects == [b"ready:Python"]
    assert json.loads(answer.answer)["status"] == "Started"


@pytest.mark.parametrize("method", [start, retry, cancel])
def test_a_flow_that_is_not_there_is_not_found(method: Method) -> None:
    with pytest.raises(NotFound) as caught:
        outcome_of(method(), b"none")

    assert caught.value.data["kind"] == "flow"
    assert caught.value.data["ids"] == {"context_id": 1, "id": 5}


@pytest.mark.parametrize("method", [retry, cancel])
def test_a_flow_in_the_wrong_state_is_a_conflict_that_says_in_which(method: Method) -> None:
    with pytest.raises(Conflict) as caught:
        outcome_of(method(), b"state", b"Finished")

    assert caught.value.data == {"detail": "flow 5 is Finished", "status": "Finished"}


@pytest.mark.parametrize("method", [start, retry, submit_one])
@pytest.mark.parametrize(("run", "spoken"), [(b"flow:9", "flow 9"), (b"message:7:9", "message 7/9")])
def test_a_job_of_another_run_is_a_conflict_that_says_whose(method: Method, run: bytes, spoken: str) -> None:
    with pytest.raises(Conflict) as caught:
        outcome_of(method(), b"busy", b"job:7:3", run)

    assert caught.value.data["job"] == 3
    assert caught.value.data["run"] == spoken
    assert spoken in caught.value.data["detail"]


def test_a_flow_that_is_no_dag_is_looked_at_for_the_error_that_says_why() -> None:
    operation = start()
    asks(operation)
    assert asks(operation, CHANGED) == [("HMGET", "flow:5", "caller_id", "jobs")]
    asks(operation, [[b"7", b"[1]"]])

    with pytest.raises(DagCycleDetected):
        operation.send([[b"[1]", b"[]", b"Python"]])


def test_a_job_that_is_missing_is_named() -> None:
    operation = start()
    asks(operation)
    asks(operation, [([b"missing", b"job:7:1", b""], [])])
    asks(operation, [[b"7", b"[1]"]])

    with pytest.raises(NotFound) as caught:
        operation.send([[None, None, None, None]])

    assert caught.value.data["ids"] == {"context_id": 1, "caller_id": 7, "id": 1}


def changed_meanwhile(operation: Operation) -> None:
    """The function saw no DAG, and a moment later there is one."""
    listed, summaries = GOOD_DAG
    asks(operation, CHANGED)
    asks(operation, listed)
    assert transition(asks(operation, summaries))[0] == "hc_flow_start"


def test_a_flow_that_changed_in_between_is_started_again() -> None:
    operation = start()
    asks(operation)
    changed_meanwhile(operation)

    assert ends(operation, [([b"ok", FLAT_FLOW], [])])["id"] == 5


def test_a_flow_that_keeps_changing_is_a_conflict() -> None:
    operation = start()
    asks(operation)
    for _ in range(flows.ATTEMPTS_TO_PLAN - 1):
        changed_meanwhile(operation)
    listed, summaries = GOOD_DAG
    asks(operation, CHANGED)
    asks(operation, listed)

    with pytest.raises(Conflict) as caught:
        operation.send(summaries)

    assert caught.value.data["flow"] == 5


@pytest.mark.parametrize(
    "operation",
    [
        lambda: submit(job(1), listed=[2]),
        lambda: submit(job(1), job(2), listed=[1]),
        lambda: submit(job(1), job(1)),
        lambda: submit(job(1, caller_id=8)),
    ],
    ids=["another", "one more", "twice", "of another caller"],
)
def test_a_submit_whose_jobs_are_not_the_flows_is_refused_before_anything_is_asked(operation: Method) -> None:
    with pytest.raises(InvalidParams) as caught:
        next(operation())

    assert caught.value.data[0]["loc"] == ["jobs"]


@pytest.mark.parametrize(("depends", "error"), [([9], DagMissingDependency), ([1], DagCycleDetected)])
def test_a_submit_of_no_dag_is_refused_before_anything_is_asked(depends: list[int], error: type[Exception]) -> None:
    with pytest.raises(error):
        next(submit(job(1, depends)))


# -- status and events


def progress(status: bytes, *, failure: bytes | None = None) -> list[bytes | None]:
    """The reply to what is asked of one job: a runner and a start, no more times."""
    return [status, b"[]", b"Python", b"2 9-1 3 30000 1000 0 ", None, None, None, None, failure, None]


def test_status_counts_the_jobs_and_shows_what_is_known_of_each() -> None:
    operation = views.flow_status(KEYS, FLOW)
    assert [command[:2] for command in asks(operation)] == [("HGETALL", "flow:5"), ("XREVRANGE", "events:5")]
    asks(operation, [{**STORED_FLOW, b"x_started": b"900"}, [[b"7-1", [b"e", b'"kind":"flow"']]]])

    report = ends(operation, [progress(b"Started"), progress(b"Error", failure=b'a "b"')])

    assert report["counts"] == {
        "Dispatched": 0,
        "WaitingForPrerequisites": 0,
        "Started": 1,
        "Error": 1,
        "Finished": 0,
    }
    first, second = report["jobs"]
    assert first == {
        "id": 1,
        "script_type": "Python",
        "depends": [],
        "status": "Started",
        "attempt": 2,
        "runner_id": 3,
        "started_at": 1000,
    }
    assert second["failure"] == 'a "b"'
    assert (report["started_at"], report["last_event"]) == (900, "7-1")
    assert "ended_at" not in report


def test_status_of_a_flow_without_events_begins_before_the_first() -> None:
    operation = views.flow_status(KEYS, FLOW)
    asks(operation)

    assert ends(operation, [{**STORED_FLOW, b"jobs": b"[]"}, []])["last_event"] == "0-0"


def test_status_of_a_large_flow_is_loaded_in_steps() -> None:
    operation = views.flow_status(KEYS, FLOW)
    asks(operation)
    listed = json.dumps([*range(views.CHUNK + 1)]).encode()

    first = asks(operation, [{**STORED_FLOW, b"jobs": listed}, []])
    second = asks(operation, [progress(b"Finished")] * len(first))

    assert (len(first), len(second)) == (views.CHUNK, 1)
    assert ends(operation, [progress(b"Finished")])["counts"]["Finished"] == views.CHUNK + 1


def test_status_of_a_flow_with_a_job_that_is_gone_names_it() -> None:
    operation = views.flow_status(KEYS, FLOW)
    asks(operation)
    asks(operation, [STORED_FLOW, []])

    report = ends(operation, [progress(b"Started"), [None] * 10])

    assert report["missing"] == [2]
    assert [job["id"] for job in report["jobs"]] == [1]


def page_of_events(after: str = "3-0") -> Operation:
    return events.flow_events(KEYS, models.FlowEventsParams(context_id=1, id=5, after=after, limit=2))


def test_a_page_of_events_begins_after_the_one_given() -> None:
    function, (flow, after, count, max_bytes) = transition(asks(page_of_events()))

    assert (function, flow, after, count) == ("hc_flow_read", "flow:5", "3-0", 2)
    assert max_bytes > 0


def test_a_page_has_the_id_of_its_last_event_and_whether_some_were_missed() -> None:
    operation = page_of_events()
    asks(operation)

    found = [item for id in (b"4-0", b"4-1") for item in (id, b'"kind":"flow","at":9')]
    page = ends(operation, [([b"ok", 1, 0, found], [])])

    assert page == {
        "events": [{"event_id": "4-0", "kind": "flow", "at": 9}, {"event_id": "4-1", "kind": "flow", "at": 9}],
        "last_event": "4-1",
        "missed": True,
    }


def test_an_empty_page_goes_on_where_it_began() -> None:
    operation = page_of_events()
    asks(operation)

    assert ends(operation, [([b"ok", 0, 1, []], [])]) == {"events": [], "last_event": "3-0", "missed": False}


def test_events_of_a_flow_that_is_not_there_are_not_found() -> None:
    operation = page_of_events()
    asks(operation)

    with pytest.raises(NotFound):
        operation.send([([b"none", b"1"], [])])


# -- attempts


def heartbeat() -> Operation:
    return alone(attempts.heartbeat(KEYS, models.JobHeartbeatParams(**ATTEMPT)))


def log() -> Operation:
    return alone(attempts.log_lines(KEYS, models.JobLogParams(**ATTEMPT, lines=["a", "b"], stream="stderr")))


def finish() -> Operation:
    return alone(attempts.finish_job(KEYS, models.JobFinishParams(**ATTEMPT, result={"a": "1"})))


def fail(**more: Any) -> Operation:
    return alone(attempts.fail_job(KEYS, models.JobFailParams(**ATTEMPT, error="broken", **more)))


@pytest.mark.parametrize(
    ("method", "function", "arguments"),
    [
        (heartbeat, "hc_heartbeat", ()),
        (log, "hc_log", ("stderr", b'["a","b"]', "a", "b")),
        (finish, "hc_finish", (b'{"a":"1"}',)),
        (fail, "hc_fail", ("broken", "", 1)),
        (lambda: fail(result={"a": "1"}, retry=False), "hc_fail", ("broken", b'{"a":"1"}', 0)),
        (lambda: fail(result={}), "hc_fail", ("broken", b"{}", 1)),
    ],
)
def test_a_report_names_the_job_and_the_token(method: Method, function: str, arguments: tuple[Any, ...]) -> None:
    assert transition(asks(method())) == (function, ("job:7:1", "9-1", *arguments))


@pytest.mark.parametrize("method", [heartbeat, log, finish, fail])
def test_a_report_on_a_job_that_is_not_there_is_not_found(method: Method) -> None:
    with pytest.raises(NotFound) as caught:
        outcome_of(method(), b"none")

    assert caught.value.data["ids"] == {"context_id": 1, "caller_id": 7, "id": 1}


@pytest.mark.parametrize("method", [heartbeat, log, finish, fail])
def test_a_report_with_a_stale_token_is_told_so(method: Method) -> None:
    with pytest.raises(StaleToken) as caught:
        outcome_of(method(), b"stale")

    assert caught.value.data["token"] == "9-1"


@pytest.mark.parametrize(
    ("method", "outcome", "answer"),
    [
        (heartbeat, (b"ok 2500",), {"lease": 2.5}),
        (log, (b"ok", 1), {"lines": 2}),
        (log, (b"ok", 0), {"lines": 0}),
        (finish, (b"ok Finished 2",), {"status": "Finished", "attempt": 2}),
        (fail, (b"ok Dispatched 1",), {"status": "Dispatched", "attempt": 1}),
    ],
)
def test_a_report_that_counted_is_answered(method: Method, outcome: tuple[Any, ...], answer: Any) -> None:
    assert outcome_of(method(), *outcome) == answer


# -- messages and prerequisites

EMBEDDED = json.dumps([{**job(1), "result": {}, "created_at": 1, "updated_at": 2, "status": "Dispatched"}]).encode()


def test_a_message_is_sent_with_its_jobs_as_they_were_read() -> None:
    operation = messages.send_message(KEYS, MESSAGE)
    assert asks(operation) == [("HMGET", "message:7:4", "job", "x_started")]

    function, (name, embedded, transport, count, sent, *fields) = transition(asks(operation, [[EMBEDDED, None]]))

    assert (function, name, embedded, count, sent) == ("hc_message_send", "message:7:4", EMBEDDED, 1, "job:7:1")
    assert len(transport) == 32
    assert fields[0] == len(fields) - 1
    assert fields[1] == "0000000007:0000000001"
    initial, _, given = fields[2].partition("|")
    assert initial.split() == ["status=Dispatched", "lost_retries=", "name=", "tags=", "result={}"]
    assert len(given.split()) == len(fields) - 3
    assert not {"status", "created_at", "updated_at", "result"} & set(given.split())


def test_a_message_that_was_sent_is_only_loaded() -> None:
    operation = messages.send_message(KEYS, MESSAGE)
    asks(operation)

    assert asks(operation, [[b"not even JSON", b"1000"]])[0] == ("HGETALL", "message:7:4")


def test_a_message_that_is_not_there_is_not_found() -> None:
    operation = messages.send_message(KEYS, MESSAGE)
    asks(operation)

    with pytest.raises(NotFound) as caught:
        operation.send([[None, None]])

    assert caught.value.data["kind"] == "message"


def test_a_message_that_keeps_changing_is_a_conflict() -> None:
    operation = messages.send_message(KEYS, MESSAGE)
    asks(operation)
    for _ in range(flows.ATTEMPTS_TO_PLAN - 1):
        asks(operation, [[EMBEDDED, None]])
        asks(operation, [([b"changed"], [])])
    asks(operation, [[EMBEDDED, None]])

    with pytest.raises(Conflict) as caught:
        operation.send([([b"changed"], [])])

    assert caught.value.data["id"] == 4


def test_a_message_with_a_job_of_another_run_is_a_conflict_that_says_whose() -> None:
    operation = messages.send_message(KEYS, MESSAGE)
    asks(operation)
    asks(operation, [[EMBEDDED, None]])

    with pytest.raises(Conflict) as caught:
        operation.send([([b"busy", b"job:7:1", b"flow:9"], [])])

    assert caught.value.data["run"] == "flow 9"


def test_jobs_of_different_callers_in_a_message_do_not_depend_on_each_other() -> None:
    jobs = [job(1), job(2, [1], caller_id=8)]
    assert message(4, jobs)["job"] == jobs
    operation = messages.send_message(KEYS, MESSAGE)
    asks(operation)

    with pytest.raises(DagMissingDependency):
        operation.send([[json.dumps(jobs).encode(), None]])


def test_a_satisfied_prerequisite_is_answered_with_how_many_waited() -> None:
    params = models.PrerequisiteSatisfyParams(context_id=1, name='a "b"', by="me")
    operation = prerequisites.satisfy_prerequisite(KEYS, params)

    assert outcome_of(operation, b"ok", b'1000,"by":"me"', 3) == {
        "name": 'a "b"',
        "scope": "context",
        "satisfied_at": 1000,
        "by": "me",
        "released": 3,
    }


@pytest.mark.parametrize("cursor", ["x", "s:", "s:a:b", "z:1:a"])
def test_a_list_of_prerequisites_cannot_begin_anywhere(cursor: str) -> None:
    params = models.PrerequisiteListParams(context_id=1, cursor=cursor)

    with pytest.raises(InvalidParams):
        next(prerequisites.list_prerequisites(KEYS, params))


def test_the_stored_job_used_here_is_a_whole_one() -> None:
    required = {name for name, member in models.Job.model_fields.items() if member.is_required()}
    assert required == {name.decode() for name in STORED_JOB}
