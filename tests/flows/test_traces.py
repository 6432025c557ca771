"""Traces: a real coordinator exports its spans by OTLP to a collector, with a real runner."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
from websockets.sync.client import connect

from tests.support.collector import Collector, attributes_of, collector
from tests.support.records import fresh_id
from tests.support.runner import job, runner
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.waiting import until_sync

pytestmark = pytest.mark.slow

WAIT: Final = 60.0
SOON: Final = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
CONTEXT: Final = 6101
SCRIPT: Final = "import os; print(os.environ.get('TRACEPARENT'), os.environ.get('HERO_REQUEST_ID'))"
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def collected() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="module")
def server(collected: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    data = str(tmp_path_factory.mktemp("data"))
    with coordinator("--otel-endpoint", collected.url, "--data-dir", data, env=SOON) as running:
        yield running


@pytest.fixture(scope="module")
def working(server: CoordinatorProcess) -> Iterator[None]:
    with runner(server.ws, CONTEXT):
        yield


def call(
    server: CoordinatorProcess, method: str, params: Any, headers: dict[str, str] | None = None, **more: Any
) -> Any:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params, **more}
    return httpx.post(server.http, json=message, headers=headers, timeout=WAIT, verify=False).json()


def submission(flow: int, *jobs: dict[str, Any]) -> dict[str, Any]:
    common = {"caller_id": 7, "context_id": CONTEXT}
    members = {"id": flow, **common, "jobs": [one["id"] for one in jobs], "env_vars": {}}
    return {"context_id": CONTEXT, "flow": members, "jobs": [{**common, **one} for one in jobs]}


def ended(server: CoordinatorProcess, flow: int) -> str:
    """The flow's status, once it has ended."""

    def status() -> str:
        return str(call(server, "flow.load", {"context_id": CONTEXT, "id": flow})["result"]["status"])

    until_sync(lambda: status() in ("Finished", "Error"), within=WAIT)
    return status()


def said(server: CoordinatorProcess, id: int) -> list[str]:
    found = call(server, "job.load", {"context_id": CONTEXT, "caller_id": 7, "id": id})
    return str(found["result"]["result"]["stdout"]).split()


def one(collected: Collector, name: str, **wanted: Any) -> Any:
    """The span of this name with these attributes, once it has come."""

    def found() -> list[Any]:
        wanted_by_name = {f"herocoordinator.{key}": value for key, value in wanted.items()}
        return [span for span in collected.named(name) if wanted_by_name.items() <= attributes_of(span).items()]

    until_sync(found, within=WAIT)
    [span] = found()
    return span


@pytest.mark.usefixtures("working")
def test_a_flow_is_a_trace_from_the_callers_span_into_the_scripts(
    server: CoordinatorProcess, collected: Collector
) -> None:
    flow, first, second = fresh_id(), fresh_id(), fresh_id()
    jobs = job(first, SCRIPT), job(second, SCRIPT, depends=[first])

    call(server, "flow.submit", submission(flow, *jobs), {"traceparent": PARENT, "x-request-id": "traced-1"})

    assert ended(server, flow) == "Finished"
    submit = one(collected, "flow.submit", request_id="traced-1")
    assert (submit.trace_id.hex(), submit.parent_span_id.hex()) == (TRACE, "00f067aa0ba902b7")
    for id in (first, second):
        attempt = one(collected, f"job {id}")
        assert (attempt.trace_id.hex(), attempt.parent_span_id) == (TRACE, submit.span_id)
        assert said(server, id) == [f"00-{TRACE}-{attempt.span_id.hex()}-01", "traced-1"]
        told = attributes_of(attempt)
        assert told["herocoordinator.run"] == f"flow:{flow}"
        assert (told["herocoordinator.outcome"], told["herocoordinator.attempt"]) == ("finished", 1)
        assert submit.start_time_unix_nano - 1_000_000 <= attempt.start_time_unix_nano < attempt.end_time_unix_nano
    [service] = collected.services.values()
    assert (service["service.name"], service["deployment.environment.name"]) == ("herocoordinator", "test")


@pytest.mark.usefixtures("working")
def test_each_attempt_has_a_span_however_it_ends(server: CoordinatorProcess, collected: Collector) -> None:
    flow, failing, late, stuck = (fresh_id() for _ in range(4))
    failed = job(failing, "import sys; sys.exit('no')", retries=1)

    call(server, "flow.submit", submission(flow, failed))
    assert ended(server, flow) == "Error"
    first, second = one(collected, f"job {failing}", attempt=1), one(collected, f"job {failing}", attempt=2)
    other = fresh_id()
    call(server, "flow.submit", submission(other, job(late, "import time; time.sleep(60)", timeout=1)))
    assert ended(server, other) == "Error"
    third = fresh_id()
    call(server, "flow.submit", submission(third, job(stuck, "import time; time.sleep(60)")))
    of_stuck = {"context_id": CONTEXT, "caller_id": 7, "id": stuck}
    until_sync(lambda: call(server, "job.load", of_stuck)["result"]["status"] == "Started")
    call(server, "flow.cancel", {"context_id": CONTEXT, "id": third, "reason": "caf\xe9 \U0001f375 enough"})

    cancelled = one(collected, f"job {stuck}")
    assert first.trace_id == second.trace_id
    assert first.span_id != second.span_id
    assert {attributes_of(span)["error.type"] for span in (first, second)} == {"failed"}
    assert "exit status 1: no" in first.status.message
    assert attributes_of(one(collected, f"job {late}"))["error.type"] in ("failed", "timed_out")
    assert attributes_of(cancelled)["error.type"] == "cancelled"
    assert "caf\xe9 \U0001f375 enough" in cancelled.status.message


def test_a_call_may_name_its_span_itself(server: CoordinatorProcess, collected: Collector) -> None:
    params = {"context_id": CONTEXT, "id": fresh_id()}
    own = f"00-{'a' * 32}-{'b' * 16}-01"
    batch = [
        {"jsonrpc": "2.0", "id": "traced", "method": "flow.load", "params": params, "traceparent": own},
        {"jsonrpc": "2.0", "id": "plain", "method": "flow.load", "params": params},
        {"jsonrpc": "2.0", "id": "wrong", "method": "flow.load", "params": params, "traceparent": {"x": "00-0-0-01"}},
        {"jsonrpc": "2.0", "id": "by place", "method": "flow.load", "params": [CONTEXT, 1], "traceparent": own},
    ]
    with connect(server.ws) as client:
        client.send(json.dumps(batch))
        client.recv()

    def found() -> dict[Any, Any]:
        return {attributes_of(span).get("jsonrpc.request.id"): span for span in collected.named("flow.load")}

    until_sync(lambda: found().keys() >= {"traced", "plain", "wrong", "by place"})
    spans = found()
    assert {spans[id].parent_span_id.hex() for id in ("traced", "by place")} == {"b" * 16}
    assert {spans[id].trace_id.hex() for id in ("traced", "by place")} == {"a" * 32}
    assert all(not spans[id].parent_span_id for id in ("plain", "wrong"))
    told = attributes_of(spans["traced"])
    assert (told["error.type"], told["rpc.method"], told["network.protocol.name"]) == (
        "-32001",
        "flow.load",
        "websocket",
    )
    took = (spans["traced"].end_time_unix_nano - spans["traced"].start_time_unix_nano) / 1e9
    assert 0 < told["herocoordinator.store.duration"] < took


@pytest.mark.usefixtures("working")
def test_what_the_caller_does_not_sample_is_not_exported_but_goes_on(
    server: CoordinatorProcess, collected: Collector
) -> None:
    flow, id = fresh_id(), fresh_id()
    trace = "c" * 32

    call(server, "flow.submit", submission(flow, job(id, SCRIPT)), {"traceparent": f"00-{trace}-{'d' * 16}-00"})
    assert ended(server, flow) == "Finished"
    call(server, "flow.load", {"context_id": CONTEXT, "id": flow}, {"x-request-id": "behind"})
    one(collected, "flow.load", request_id="behind")

    version, told, span, flags = said(server, id)[0].split("-")
    assert (version, told, flags) == ("00", trace, "00")
    assert span != "d" * 16
    assert not [span for span in collected.spans if span.trace_id.hex() == trace]


def test_an_attempt_that_outlives_its_coordinator_has_its_span(collected: Collector, tmp_path: Any) -> None:
    flow, id = fresh_id(), fresh_id()
    arguments = "--otel-endpoint", collected.url, "--data-dir", str(tmp_path)
    with coordinator(*arguments, env=SOON) as before:
        call(before, "runner.create", {"context_id": CONTEXT, "runner": RUNNER})
        call(before, "flow.submit", submission(flow, job(id, "")), {"traceparent": PARENT})
        take = {"context_id": CONTEXT, "runner_id": 9, "script_types": ["Python"], "lease": 60}
        [assignment] = call(before, "job.take", take)["result"]["jobs"]
        before.kill()
    with coordinator(*arguments) as after:
        report = {"context_id": CONTEXT, "caller_id": 7, "id": id, "token": assignment["token"], "result": {}}
        assert "result" in call(after, "job.finish", report)

    attempt = one(collected, f"job {id}")  # what has not been exported yet is, at the end

    assert assignment["traceparent"] == f"00-{TRACE}-{attempt.span_id.hex()}-01"


RUNNER: Final = {"id": 9, "pubkey": "", "address": "127.0.0.1", "topic": "runner9", "local": True}


def test_a_collector_that_does_not_answer_keeps_nobody_waiting(tmp_path: Any) -> None:
    with collector() as hanging:
        hanging.answers.clear()
        with coordinator("--otel-endpoint", hanging.url, "--data-dir", str(tmp_path), env=SOON) as server:
            many = [
                {"jsonrpc": "2.0", "id": at, "method": "flow.load", "params": {"context_id": CONTEXT, "id": 1}}
                for at in range(1000)
            ]
            for _ in range(5):
                assert len(httpx.post(server.http, json=many, timeout=WAIT).json()) == len(many)
            begun = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - begun < 40  # the SDK itself would wait for its exporter
        assert any("could not be exported" in line["event"] for line in server.logs)


def test_what_is_not_wanted_is_not_imported() -> None:
    program = (
        "import sys; import coordinator.cli.serve, coordinator.server.app; "
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'google.protobuf'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("url", "why"), [("127.0.0.1:4318", "is no http://"), ("http://me:secret@h:1", "OTEL_EXPORTER_OTLP_HEADERS")]
)
def test_an_endpoint_that_is_none_is_refused(url: str, why: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "coordinator", "serve", "--otel-endpoint", url],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert why in done.stderr
    assert "secret" not in done.stderr
