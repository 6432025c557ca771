"""How many records a context may have, whoever creates them and by which method."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.access import callers
from tests.access.callers import Caller, caller
from tests.support.server import CoordinatorProcess, coordinator

OVERLOADED = -32043
JOBS, FLOWS = 205, 4
ADMIN, EXECUTOR = 7, 8


@pytest.fixture(scope="module", params=["none", "keys"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    home: Path = tmp_path_factory.mktemp("quotas")
    limits = "--context-jobs", str(JOBS), "--context-flows", str(FLOWS)
    with coordinator("--data-dir", str(home), "--auth", request.param, "--workers", "2", *limits) as one:
        token = callers.operator_token(home) if request.param == "keys" else None
        with caller(one, "http", token) as operator:
            for id in (ADMIN, EXECUTOR):
                operator.result("actor.create", callers.actor(id))
            for context in CONTEXTS:
                members = callers.context(context, admins=[ADMIN], executors=[EXECUTOR], readers=[])
                operator.result("context.create", members)
            one.token = token  # type: ignore[attr-defined]
            if token is not None:
                made = operator.result("token.create", {"label": "t", "principal": f"actor:{EXECUTOR}"})
                one.token = made["token"]  # type: ignore[attr-defined]
        yield one


CONTEXTS = range(1, 9)
_contexts: dict[int, Iterator[int]] = {}


@pytest.fixture
def context(server: CoordinatorProcess) -> int:
    """One that nobody has used. What is called there is called by an executor, where callers log in."""
    return next(_contexts.setdefault(id(server), iter(CONTEXTS)))


@pytest.fixture(params=["http", "ws"])
def one(request: pytest.FixtureRequest, server: CoordinatorProcess) -> Iterator[Caller]:
    with caller(server, request.param, server.token) as client:  # type: ignore[attr-defined]
        yield client


def _job(context: int, id: int) -> dict[str, Any]:
    return {"context_id": context, "job": callers.job(context, EXECUTOR, id)}


def _flow(context: int, id: int) -> dict[str, Any]:
    return {"context_id": context, "flow": callers.flow(context, EXECUTOR, id, [1])}


def _submit(context: int, flow: int, jobs: range) -> dict[str, Any]:
    made = [callers.job(context, EXECUTOR, id) for id in jobs]
    return {"context_id": context, "flow": callers.flow(context, EXECUTOR, flow, [*jobs]), "jobs": made}


def _filled(one: Caller, context: int, jobs: int) -> None:
    calls = [
        {"jsonrpc": "2.0", "id": id, "method": "job.create", "params": _job(context, id)} for id in range(1, jobs + 1)
    ]
    assert all("result" in reply for reply in one.send(calls))


def _refused(one: Caller, method: str, params: Any, kind: str, most: int) -> None:
    error = one.error(method, params)
    assert error["code"] == OVERLOADED
    assert error["data"]["setting"] == f"context_{kind}s"
    assert error["data"]["limit"] == most
    assert str(most) in error["data"]["detail"]


def test_jobs_beyond_are_refused_and_those_that_are_there_may_change(one: Caller, context: int) -> None:
    _filled(one, context, JOBS - 1)
    batch = [
        {"jsonrpc": "2.0", "id": id, "method": "job.create", "params": _job(context, id)}
        for id in (1, JOBS, JOBS + 1, JOBS + 2, JOBS)
    ]
    assert ["result" in reply for reply in one.send(batch)] == [True, True, False, False, True]
    _refused(one, "job.create", _job(context, JOBS + 1), "job", JOBS)
    assert one.code("job.load", {"context_id": context, "caller_id": EXECUTOR, "id": JOBS + 1}) == -32001
    if one.ws is not None:
        notification = {"jsonrpc": "2.0", "method": "job.create", "params": _job(context, JOBS + 1)}
        one.ws.send(json.dumps(notification))
        assert one.code("job.load", {"context_id": context, "caller_id": EXECUTOR, "id": JOBS + 1}) == -32001
    one.result("job.delete", {"context_id": context, "caller_id": EXECUTOR, "id": 1})
    one.result("job.create", _job(context, JOBS + 1))
    _refused(one, "job.create", _job(context, JOBS + 2), "job", JOBS)


def test_a_flow_that_is_submitted_counts_with_all_its_jobs(one: Caller, context: int) -> None:
    _filled(one, context, JOBS - 10)
    _refused(one, "flow.submit", _submit(context, 1, range(1001, 1012)), "job", JOBS)
    assert one.code("flow.load", {"context_id": context, "id": 1}) == -32001
    assert one.code("job.load", {"context_id": context, "caller_id": EXECUTOR, "id": 1001}) == -32001
    one.result("flow.submit", _submit(context, 1, range(1001, 1011)))
    _refused(one, "job.create", _job(context, 2000), "job", JOBS)


def test_flows_beyond_are_refused_however_they_are_made(one: Caller, context: int) -> None:
    for id in range(1, FLOWS + 1):
        one.result("flow.create", _flow(context, id))
    one.result("flow.create", _flow(context, 1))
    _refused(one, "flow.create", _flow(context, FLOWS + 1), "flow", FLOWS)
    _refused(one, "flow.create", {**_flow(context, FLOWS + 1), "abandon_after": 60}, "flow", FLOWS)
    _refused(one, "flow.submit", _submit(context, FLOWS + 1, range(1, 3)), "flow", FLOWS)
    one.result("flow.delete", {"context_id": context, "id": 2})
    one.result("flow.submit", _submit(context, FLOWS + 1, range(11, 13)))
    _refused(one, "flow.create", _flow(context, FLOWS + 2), "flow", FLOWS)


def test_a_message_that_is_sent_and_a_large_flow_count_too(one: Caller, context: int) -> None:
    _filled(one, context, JOBS - 120)
    embedded = [callers.job(context, EXECUTOR, id) for id in range(1001, 1004)]
    sent = {"context_id": context, "caller_id": EXECUTOR, "id": 1}
    one.result("message.create", {"context_id": context, "message": callers.message(context, EXECUTOR, 1, embedded)})
    _refused(one, "flow.submit", _submit(context, 1, range(2001, 2202)), "job", JOBS)  # it is created in parts
    assert one.code("flow.load", {"context_id": context, "id": 1}) == -32001
    one.result("flow.submit", _submit(context, 2, range(3001, 3119)))
    _refused(one, "message.send", sent, "job", JOBS)
    assert one.code("job.load", {"context_id": context, "caller_id": EXECUTOR, "id": 1001}) == -32001
    one.result("job.delete", {"context_id": context, "caller_id": EXECUTOR, "id": 1})
    one.result("message.send", sent)
    _refused(one, "job.create", _job(context, 1), "job", JOBS)
