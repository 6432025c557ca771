"""Names, log lines, results and errors that others made reach no terminal as they are."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import trio

from coordinator.client import Client, connect
from coordinator.models import FlowCreate, JobCreate, RunnerCreate
from coordinator.printable import visible_lines
from tests.cli.conftest import Flows
from tests.cli.test_call import answering
from tests.support.commands import herocoordinator
from tests.support.runner import new_context
from tests.support.server import CoordinatorProcess

pytestmark = pytest.mark.slow

NASTY = "\x1b[2J\x1b]0;t\x07\x9b2J\u202eabc\u2066\r\x08\nnext"
MARK = "x1b[2J"


@pytest.fixture(autouse=True)
def _on_trio(anyio_backend: str) -> None:
    """Coroutine tests run on trio."""


async def flow_of_others(client: Client, context: int) -> None:
    """Flow 1 is Finished, 2 in Error, 3 waits; everything that may be called something has a nasty name."""
    name = RunnerCreate(id=3, pubkey="", address="::1", topic=f"topic{NASTY}", local=True)
    await client.runner_create(context_id=context, runner=name)
    for id in (1, 2, 3):
        common: dict[str, Any] = {"caller_id": 1, "context_id": context}
        variables = {"HERO_JOB_NAME": f"job{NASTY}"}
        job = JobCreate(
            id=id,
            **common,
            script="",
            script_type="Python",
            timeout=0,
            retries=0,
            env_vars=variables,
            prerequisites=[],
            depends=[],
        )
        flow = FlowCreate(id=id, **common, jobs=[id], env_vars={"HERO_FLOW_NAME": f"flow{NASTY}"})
        await client.flow_submit(context_id=context, flow=flow, jobs=[job])
        if id == 3:
            return
        (taken,) = await client.job_take(context_id=context, runner_id=3, script_types=["Python"])
        report = {"context_id": context, "caller_id": 1, "id": id, "token": taken.token}
        await client.call("job.log", {**report, "lines": [f"line{NASTY}"], "stream": "stderr"})
        result = {f"key{NASTY}": f"value{NASTY}", "stdout": f"out{NASTY}"}
        if id == 1:
            await client.call("job.finish", {**report, "result": result})
        else:
            await client.call("job.fail", {**report, "error": f"why{NASTY}", "result": result})


async def test_every_command_on_flows_shows_what_it_must_not_pass_on(server: CoordinatorProcess, flows: Flows) -> None:
    flows = Flows(server.ws, new_context(), flows.directory)
    async with connect(server.ws) as client:
        await flow_of_others(client, flows.context)
    commands: list[tuple[str, ...]] = [
        ("list",),
        ("show", "1"),
        ("show", "2"),
        ("follow", "1"),
        ("follow", "2", "--plain"),
        ("logs", "1"),
        ("cancel", "3", "--reason", NASTY),
        ("retry", "3"),
    ]
    for command in commands:
        done = flows(*command)

        said = done.stdout + done.stderr
        assert visible_lines(said) == said, command
        assert MARK in said, command
        assert "\nnext" not in said, command
        assert "Traceback" not in said, command


async def test_logs_are_given_as_they_are_to_who_asks_for_that(server: CoordinatorProcess, flows: Flows) -> None:
    flows = Flows(server.ws, new_context(), flows.directory)
    async with connect(server.ws) as client:
        await flow_of_others(client, flows.context)

    command = [sys.executable, "-m", "coordinator", "flow", "logs", *flows.at, "1", "--raw"]
    done = await trio.run_process(command, capture_stdout=True)

    assert done.stdout.decode() == f"line{NASTY}\n"


async def test_a_result_of_call_stays_json(server: CoordinatorProcess) -> None:
    context = new_context()
    async with connect(server.ws) as client:
        await flow_of_others(client, context)
        loaded = await client.call("job.load", {"context_id": context, "caller_id": 1, "id": 1})

    given = json.dumps({"context_id": context, "caller_id": 1, "id": 1})
    done = herocoordinator("call", "--url", server.ws, "job.load", given)

    assert visible_lines(done.stdout) == done.stdout
    assert json.loads(done.stdout) == loaded


@pytest.mark.parametrize("data", [{NASTY: NASTY}, [{"loc": [NASTY], "msg": NASTY}], None])
def test_so_does_an_error(data: Any) -> None:
    error = {"code": -32000, "message": NASTY, "data": data}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    with answering(head + body) as port:
        done = herocoordinator("call", "--url", f"http://127.0.0.1:{port}", "context.load", "[1]")

    assert done.returncode == 1
    assert visible_lines(done.stderr) == done.stderr
    assert MARK in done.stderr


def test_so_does_a_flow_file_of_somebody_else(flows: Flows) -> None:
    path = flows.file(json.dumps({"jobs": [{"name": "a", "script": "", NASTY: 1, "depends": [NASTY]}]}), "flow.yaml")

    done = flows("run", path)

    assert done.returncode == 2
    assert visible_lines(done.stderr) == done.stderr
