"""`flow run` of files too large for one message."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest
import trio

from coordinator.client import Client, connect
from coordinator.models import Flow, FlowCreate
from tests.cli.conftest import Flows
from tests.support.commands import herocoordinator_started
from tests.support.runner import new_context
from tests.support.server import CoordinatorProcess

MANY = 8_000

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _on_trio(anyio_backend: str) -> None:
    """Coroutine tests run on trio."""


def large(jobs: int, padding: int = 0) -> str:
    script = f"print('here')\n#{'x' * padding}"
    return "name = 'large'\n" + "".join(f"[jobs.job{at}]\nscript = '''{script}'''\n" for at in range(jobs))


def test_a_file_of_a_few_large_scripts_runs(flows: Flows) -> None:
    done = flows("run", flows.file(large(6, 250_000)))

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| here") == 6
    assert re.search(r"^flow \d+ \(large\) Finished", done.stdout, re.M)


async def sent_in_part(client: Client, context: int) -> Flow:
    """The flow that is being sent, once jobs of it are there."""
    with trio.fail_after(60):
        while True:
            found = (await client.flow_list(context_id=context)).items
            if found and (await client.job_list(context_id=context, limit=1)).items:
                return found[0]
            await trio.sleep(0.02)


async def is_empty(client: Client, context: int) -> bool:
    flows = await client.flow_list(context_id=context)
    jobs = await client.job_list(context_id=context, limit=1)
    return not flows.items and not jobs.items


def started(flows: Flows) -> subprocess.Popen[str]:
    return herocoordinator_started("flow", "run", *flows.at, flows.file(large(MANY)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_while_it_is_sent_deletes_what_was_sent(
    server: CoordinatorProcess, flows: Flows, number: signal.Signals
) -> None:
    async with connect(server.ws) as client:
        process = started(flows)
        flow = await sent_in_part(client, flows.context)
        assert flow.status == "Dispatched"

        process.send_signal(number)

        output, complaint = await trio.to_thread.run_sync(process.communicate)
        assert process.returncode == 128 + number
        assert f"flow {flow.id} was not started, and what was sent of it is deleted" in complaint
        assert complaint.endswith("herocoordinator: interrupted\n") is (number == signal.SIGINT)
        assert output == ""
        assert await is_empty(client, flows.context)


async def test_the_server_deletes_what_a_command_that_was_killed_has_sent(
    server: CoordinatorProcess, flows: Flows
) -> None:
    async with connect(server.ws) as client:
        process = started(flows)
        flow = await sent_in_part(client, flows.context)
        process.kill()
        process.wait()
        # A flow that was there without a time to be deleted at would not get one: so the command has given it one.
        draft = FlowCreate.model_validate(flow.model_dump(include=set(FlowCreate.model_fields)))
        await client.flow_create(context_id=flows.context, flow=draft, abandon_after=1)

        with trio.fail_after(60):
            while not await is_empty(client, flows.context):
                await trio.sleep(0.1)


async def test_a_context_without_runners_gets_the_whole_of_it(server: CoordinatorProcess, flows: Flows) -> None:
    context = new_context()
    done = flows("run", "--no-follow", flows.file(large(MANY)), "--context", str(context))

    assert done.returncode == 0, done.stderr
    async with connect(server.ws) as client:
        report = await client.flow_status(context_id=context, id=int(done.stdout))
    assert report.flow.status == "Started"
    assert report.counts["Dispatched"] == MANY
