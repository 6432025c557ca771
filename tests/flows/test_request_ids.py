"""The request id of the call that has started a run: the logs have it, and so have the scripts of the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.support.records import fresh_id
from tests.support.runner import job, runner
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.waiting import until_sync as until

pytestmark = pytest.mark.slow

WAIT = 60.0
SCRIPT = "import os; print('for', os.environ.get('HERO_REQUEST_ID'), os.environ.get('TRACEPARENT'))"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def server(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    logs = "--access-log", str(kept / "access"), "--audit-log", str(kept / "audit")
    with coordinator(*logs, "--data-dir", str(tmp_path_factory.mktemp("data"))) as running:
        yield running


@pytest.fixture(scope="module")
def context(server: CoordinatorProcess) -> Iterator[int]:
    with runner(server.ws, 6001):
        yield 6001


def call(server: CoordinatorProcess, method: str, params: Any, request_id: str | None = None) -> Any:
    reply = httpx.post(
        server.http,
        json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
        headers={} if request_id is None else {"x-request-id": request_id},
        timeout=WAIT,
    ).json()
    return reply["result"]


def submission(context: int, id: int, *jobs: dict[str, Any]) -> dict[str, Any]:
    common = {"caller_id": 7, "context_id": context}
    flow = {"id": id, **common, "jobs": [one["id"] for one in jobs], "env_vars": {}}
    return {"context_id": context, "flow": flow, "jobs": [{**common, **one} for one in jobs]}


def said(server: CoordinatorProcess, context: int, flow: int, job: int) -> str:
    """What the job has printed, once its flow has ended."""
    until(lambda: call(server, "flow.load", {"context_id": context, "id": flow})["status"] in ("Finished", "Error"))
    found = call(server, "job.load", {"context_id": context, "caller_id": 7, "id": job})
    return str(found["result"]["stdout"]).strip()


def lines(kept: Path, log: str, method: str, request_id: str) -> list[dict[str, Any]]:
    def found() -> list[dict[str, Any]]:
        every = map(json.loads, (kept / log).read_text().splitlines())
        return [line for line in every if (line["method"], line["request_id"]) == (method, request_id)]

    until(lambda: bool(found()))
    return found()


def test_over_http_it_is_the_one_that_was_given(server: CoordinatorProcess, context: int, kept: Path) -> None:
    flow, id = fresh_id(), fresh_id()

    call(server, "flow.submit", submission(context, flow, job(id, SCRIPT)), "given,1")

    assert said(server, context, flow, id) == "for given,1 None"
    assert (
        len(lines(kept, "access", "flow.submit", "given,1")) == len(lines(kept, "audit", "flow.submit", "given,1")) == 1
    )


def test_each_start_of_a_flow_has_its_own(server: CoordinatorProcess, context: int) -> None:
    flow, id = fresh_id(), fresh_id()
    call(server, "flow.submit", submission(context, flow, job(id, SCRIPT)), "first")
    assert said(server, context, flow, id) == "for first None"

    call(server, "flow.rerun", {"context_id": context, "id": flow}, "second")

    until(lambda: said(server, context, flow, id) == "for second None")


def test_a_large_flow_that_is_started_in_slices_has_it(server: CoordinatorProcess, context: int) -> None:
    flow = fresh_id()
    jobs = [job(fresh_id(), SCRIPT if at == 0 else "", depends=[]) for at in range(300)]
    for one in jobs[1:]:
        one["depends"] = [jobs[0]["id"]]
    call(server, "flow.submit", submission(context, flow, *jobs), "sliced")

    last = {"context_id": context, "caller_id": 7, "id": jobs[0]["id"]}
    until(lambda: call(server, "job.load", last)["status"] == "Finished")

    assert call(server, "job.load", last)["result"]["stdout"].strip() == "for sliced None"
    call(server, "flow.cancel", {"context_id": context, "id": flow})


def test_on_a_websocket_both_logs_name_the_call_alike(server: CoordinatorProcess, context: int, kept: Path) -> None:
    flows = {fresh_id(): fresh_id() for _ in range(2)}
    calls = [
        {"jsonrpc": "2.0", "id": flow, "method": "flow.submit", "params": submission(context, flow, job(id, SCRIPT))}
        for flow, id in flows.items()
    ]
    calls.insert(1, {"jsonrpc": "2.0", "id": 1, "method": "context.load", "params": {"id": context}})
    with connect(server.ws) as client:
        client.send(json.dumps(calls))
        client.recv()

    told = [said(server, context, flow, id).split()[1] for flow, id in flows.items()]

    assert told[0].rpartition(".")[0] == told[1].rpartition(".")[0]
    assert [one.rpartition(".")[2] for one in told] == ["1", "3"]
    for request_id in told:
        [access], [audit] = (lines(kept, log, "flow.submit", request_id) for log in ("access", "audit"))
        assert access["id"] == audit["id"]


def test_a_secret_that_is_sent_as_one_reaches_no_script(server: CoordinatorProcess, context: int) -> None:
    flow, id = fresh_id(), fresh_id()

    call(server, "flow.submit", submission(context, flow, job(id, SCRIPT)), "a-hc_secretsecret")

    assert said(server, context, flow, id) == "for a-hc_*** None"


def test_without_a_log_only_one_that_was_given_is_told(server: CoordinatorProcess, tmp_path: Path) -> None:
    with coordinator("--data-dir", str(tmp_path)) as plain, runner(plain.ws, 6002):
        given, none = (fresh_id(), fresh_id()), (fresh_id(), fresh_id())
        call(plain, "flow.submit", submission(6002, given[0], job(given[1], SCRIPT)), "given-2")
        call(plain, "flow.submit", submission(6002, none[0], job(none[1], SCRIPT)))

        assert said(plain, 6002, *given) == "for given-2 None"
        assert said(plain, 6002, *none) == "for None None"
