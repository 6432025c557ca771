"""How many bytes the records of a context may take, whoever writes them and by which method."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.access import callers
from tests.access.callers import Caller, caller
from tests.support.server import CoordinatorProcess, coordinator

OVERLOADED = -32043
LIMIT = 200_000
SCRIPT = "x" * 10_000
ACTOR = 8
LARGE = 300  # jobs of a flow that is created in parts

contexts = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    home: Path = tmp_path_factory.mktemp("bytes")
    arguments = "--context-bytes", str(LIMIT), "--workers", "2", "--retention", "1"
    with coordinator("--data-dir", str(home), *arguments) as one:
        yield one


@pytest.fixture(params=["http", "ws"])
def one(request: pytest.FixtureRequest, server: CoordinatorProcess) -> Iterator[Caller]:
    with caller(server, request.param) as client:
        yield client


@pytest.fixture
def context() -> int:
    return next(contexts)


def _job(context: int, id: int, script: str = SCRIPT) -> dict[str, Any]:
    return {"context_id": context, "job": {**callers.job(context, ACTOR, id), "script": script}}


def _name(context: int, id: int) -> dict[str, Any]:
    return {"context_id": context, "caller_id": ACTOR, "id": id}


def _submit(context: int, flow: int, jobs: range, script: str = SCRIPT) -> dict[str, Any]:
    made = [_job(context, id, script)["job"] for id in jobs]
    return {"context_id": context, "flow": callers.flow(context, ACTOR, flow, [*jobs]), "jobs": made}


def _message(context: int, id: int, jobs: range) -> dict[str, Any]:
    made = [_job(context, job)["job"] for job in jobs]
    return {"context_id": context, "message": callers.message(context, ACTOR, id, made)}


def _refused(one: Caller, method: str, params: Any) -> dict[str, Any]:
    error = one.error(method, params)
    assert error["code"] == OVERLOADED, error
    data: dict[str, Any] = error["data"]
    assert (data["setting"], data["limit"]) == ("context_bytes", LIMIT)
    assert str(data["used"]) in data["detail"]
    return data


def _filled(one: Caller, context: int) -> list[int]:
    """Create jobs until one is refused. Returns their ids."""
    for id in range(1, 100):
        reply = one.call("job.create", _job(context, id))
        if "error" in reply:
            return [*range(1, id)]
    raise AssertionError("nothing was refused")


def test_what_would_be_too_much_is_refused_and_what_is_deleted_makes_room(one: Caller, context: int) -> None:
    jobs = _filled(one, context)
    data = _refused(one, "job.create", _job(context, 1000))
    assert len(jobs) * len(SCRIPT) <= data["used"] <= LIMIT
    assert one.code("job.load", _name(context, 1000)) == -32001
    for _ in range(3):
        one.result("job.create", _job(context, jobs[0]))  # which is no larger than before
    one.result("job.delete", _name(context, jobs[-1]))
    one.result("job.create", _job(context, jobs[-1]))
    _refused(one, "job.create", _job(context, 1000))
    for id in jobs:
        one.result("job.delete", _name(context, id))
    assert _filled(one, context) == jobs


def test_a_record_that_grows_is_refused_and_one_that_shrinks_is_not(one: Caller, context: int) -> None:
    jobs = _filled(one, context)
    _refused(one, "job.create", _job(context, jobs[0], 3 * SCRIPT))
    one.result("job.create", _job(context, jobs[0], "x"))
    one.result("job.create", _job(context, 1000, SCRIPT[:5_000]))


def test_flows_and_messages_count_with_their_jobs(one: Caller, context: int) -> None:
    _refused(one, "flow.submit", _submit(context, 1, range(1, 40)))
    assert one.code("flow.load", {"context_id": context, "id": 1}) == -32001
    one.result("flow.submit", _submit(context, 1, range(1, 16)))
    _refused(one, "flow.submit", _submit(context, 2, range(100, 108)))
    _refused(one, "message.create", _message(context, 1, range(100, 108)))
    one.result("flow.cancel", {"context_id": context, "id": 1})
    one.call("flow.delete", {"context_id": context, "id": 1})
    one.result("message.create", _message(context, 1, range(100, 112)))
    _refused(one, "message.send", _name(context, 1))  # its jobs would be there a second time
    one.result("message.delete", _name(context, 1))
    one.result("message.create", _message(context, 2, range(100, 106)))
    one.result("message.send", _name(context, 2))


def test_a_large_flow_counts_too(one: Caller, context: int) -> None:
    _refused(one, "flow.submit", _submit(context, 1, range(1, LARGE + 1), "x" * 1000))
    assert one.code("flow.load", {"context_id": context, "id": 1}) == -32001
    one.result("flow.submit", _submit(context, 2, range(1001, 1001 + LARGE // 3), "x"))
    one.result("flow.cancel", {"context_id": context, "id": 2})


@pytest.mark.slow
def test_what_retention_deletes_makes_room(one: Caller, context: int) -> None:
    one.result("flow.submit", _submit(context, 1, range(1, 16)))
    _refused(one, "job.create", _job(context, 100, "x" * 100_000))
    one.result("flow.cancel", {"context_id": context, "id": 1})
    for _ in range(200):
        if "result" in one.call("job.create", _job(context, 100, "x" * 100_000)):
            return
        time.sleep(0.1)
    raise AssertionError("nothing was given back")


def test_results_count_though_they_are_not_refused(one: Caller, context: int) -> None:
    one.result("runner.create", callers.runner(context, 1))
    one.result("flow.submit", _submit(context, 1, range(1, 3), "x"))
    taken = one.result("job.take", {"context_id": context, "runner_id": 1, "script_types": ["Python"], "count": 2})
    for job in taken["jobs"]:
        done = {"context_id": context, "caller_id": ACTOR, "id": job["job"]["id"], "token": job["token"]}
        one.result("job.finish", {**done, "result": {"out": "x" * 150_000}})
    assert _refused(one, "job.create", _job(context, 100, "x"))["used"] > LIMIT


@pytest.mark.slow
def test_what_was_there_before_the_limit_is_counted(tmp_path: Path) -> None:
    """More than are counted in one call."""
    many, each = 350, 2_000
    with coordinator("--data-dir", str(tmp_path)) as server, caller(server, "http") as one:
        for first in range(1, many, 50):
            batch = [
                {"jsonrpc": "2.0", "id": id, "method": "job.create", "params": _job(1, id, "x" * each)}
                for id in range(first, first + 50)
            ]
            assert all("result" in reply for reply in one.send(batch))
        one.result("job.create", _job(2, 1))
    with coordinator("--data-dir", str(tmp_path), "--context-bytes", str(LIMIT)) as server:
        with caller(server, "http") as one:
            replies = [one.call("job.create", _job(1, 1000 + at, "x")) for at in range(8)]
            assert replies[-1]["error"]["data"]["used"] > many * each
            one.result("job.create", _job(2, 2))
            for id in range(1, many + 1):
                one.result("job.delete", _name(1, id))
            one.result("job.create", _job(1, 2000))
