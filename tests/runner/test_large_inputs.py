"""A job that depends on many with large results gets all of them, and nobody else waits for that."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Final

import httpx
import pytest
import trio

from coordinator.client import Client, connect
from coordinator.runner.execute import Executor
from coordinator.runner.output import Output
from tests.support.attempts import Ran, assignment
from tests.support.clients import JSON, request
from tests.support.looking import resident
from tests.support.runner import job, new_context, runner, submit
from tests.support.server import CoordinatorProcess

PARENTS: Final = 160
BYTES: Final = 900_000

COUNT: Final = """
import hashlib, json, os
inputs = json.load(open(os.environ["HERO_INPUTS"]))
lengths = {len(result["out"]) for result in inputs.values()}
same = all(id == result["mark"] for id, result in inputs.items())
open(os.environ["HERO_RESULT"], "w").write(f"count={len(inputs)}\\nlengths={lengths}\\nsame={same}\\n")
"""


async def pages(*given: dict[str, dict[str, str]]) -> AsyncIterator[dict[str, dict[str, str]]]:
    for page in given:
        await trio.lowlevel.checkpoint()
        yield page


@pytest.mark.parametrize(
    "parts",
    [
        [{"1": {"a": "}"}}, {"2": {}}, {}, {"3": {"b": "é"}}],
        [{}, {"1": {}}, {"2": {}}],
        [{}, {}],
        [{}],
        [{"1": {}}],
    ],
    ids=str,
)
async def test_pages_make_one_file(executor: Executor, parts: list[dict[str, dict[str, str]]]) -> None:
    script = "import os; print(open(os.environ['HERO_INPUTS']).read())"
    output = Output(10_000)
    given = assignment(script, inputs=parts[0], inputs_from=[1])

    ran = Ran(await executor.execute(given, output, trio.Event(), more_inputs=pages(*parts[1:])), output)

    assert ran.error is None
    merged = {id: result for part in parts for id, result in part.items()}
    assert json.loads(ran.logged["stdout"][0]) == merged


@pytest.fixture
async def client(server: CoordinatorProcess) -> AsyncIterator[Client]:
    async with connect(server.ws) as connected:
        yield connected


async def finish_all(server: CoordinatorProcess, context: int) -> None:
    """Take every job of another type, and finish it with a large result."""
    async with httpx.AsyncClient(timeout=60, verify=False) as http:

        async def call(method: str, **params: object) -> dict[str, list[dict[str, dict[str, int]]]]:
            content = json.dumps(request(method, {"context_id": context, **params}, 1))
            answer = (await http.post(server.http, content=content, headers=JSON)).json()
            assert "result" in answer, answer
            result: dict[str, list[dict[str, dict[str, int]]]] = answer["result"]
            return result

        record = {"id": 99, "pubkey": "", "address": "::1", "topic": "t", "local": True}
        await call("runner.create", runner=record)
        while jobs := (await call("job.take", runner_id=99, script_types=["V"], count=50))["jobs"]:
            for taken in jobs:
                id = taken["job"]["id"]
                result = {"out": "x" * BYTES, "mark": str(id)}
                await call(
                    "job.finish", caller_id=taken["job"]["caller_id"], id=id, token=taken["token"], result=result
                )


@pytest.mark.slow
async def test_a_fan_in_of_many_large_results_works(server: CoordinatorProcess, client: Client) -> None:
    context = new_context()
    ids = [*range(1, PARENTS + 1)]
    flow = await submit(client, context, *(job(id, "", script_type="V") for id in ids), job(1000, COUNT, depends=ids))
    await finish_all(server, context)
    before = resident(server.process.pid, "VmHWM")

    with runner(server.ws, context):
        with trio.fail_after(120):
            await flow.ended()

    result = (await flow.results())["1000"]
    assert (result["count"], result["same"]) == (str(PARENTS), "True")
    assert result["lengths"] == f"{{{BYTES}}}"
    assert resident(server.process.pid, "VmHWM") - before < 100  # MiB; all of it is 144 MB
