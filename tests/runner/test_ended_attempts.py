"""What is left of an attempt that was ended, and who may run it: real runners, whose coordinator is cut off or away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from coordinator.client import Client, connect
from coordinator.models import FlowEvent
from coordinator.runner import attempt
from coordinator.runner.serve import Service
from coordinator.runner.settings import RunnerSettings
from tests.runner.test_fence import state_of
from tests.support.processes import is_running
from tests.support.proxy import proxied
from tests.support.runner import FlowOfTest, job, new_context, runner, submit
from tests.support.server import CoordinatorProcess, coordinator, free_port
from tests.support.waiting import until

pytestmark = pytest.mark.slow

TALKS = """
import os, signal, sys, time
def stop(*_):
    print("cleaning up")
    print("and gone", end="", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
open(os.environ["HERO_RESULT"], "w").write("rows=3\\n")
print(os.getpid(), flush=True)
print("10%\\r20%\\r", end="", flush=True)
print("30%", end="", file=sys.stderr, flush=True)
time.sleep(600)
"""

BEATS = """
import os, time
with open(os.environ["BEATS"], "a") as beats:
    for _ in range(int(os.environ["COUNT"])):
        beats.write(f"{os.environ['HERO_ATTEMPT_ID']} {os.getpid()}\\n")
        beats.flush()
        time.sleep(0.02)
"""


@pytest.fixture
async def client(server: CoordinatorProcess) -> AsyncIterator[Client]:
    async with connect(server.ws) as connected:
        yield connected


async def logged(flow: FlowOfTest, last: str) -> list[str]:
    """The lines of its job, once this one is among them, which may be after the flow's end."""
    lines: list[str] = []
    with trio.fail_after(30):
        async for event in flow.client.follow_flow(flow.context, flow.id, forever=True):
            lines += event.lines or []
            if last in lines:
                return lines
    raise AssertionError


async def result_of(flow: FlowOfTest, id: int = 1) -> dict[str, str]:
    """A job's result, once there is one, which may be after its attempt's end."""
    with trio.fail_after(30):
        while not (result := (await flow.job(id)).result):
            await trio.sleep(0.05)
    return result


async def test_a_cancelled_attempt_keeps_its_output_and_its_result(server: CoordinatorProcess, client: Client) -> None:
    context = new_context()
    with runner(server.ws, context) as running:
        flow = await submit(client, context, job(1, TALKS, timeout=0))
        pid = await flow.first_line()
        await client.flow_cancel(context_id=context, id=1, reason="changed my mind")

        lines = await logged(flow, "and gone")
        result = await result_of(flow)

        assert lines == [pid, "10%", "20%", "cleaning up", "30%", "and gone"]
        assert result == {"rows": "3", "stdout": result["stdout"], "stderr": "30%", "exit_code": "0"}
        assert result["stdout"].endswith("cleaning up\nand gone")
        report = await flow.report()
        assert (report.jobs[0].status, report.jobs[0].failure) == ("Error", "cancelled: changed my mind")
        assert "changed my mind" in running.wait_for("told to stop a job")["reason"]


async def test_a_timed_out_attempt_is_ended_by_its_runner_which_tells_of_it(
    server: CoordinatorProcess, client: Client
) -> None:
    context = new_context()
    with runner(server.ws, context) as running:
        flow = await submit(client, context, job(1, TALKS, timeout=2))
        events = await flow.ended()

        lines = [line for event in events for line in event.lines or []]
        assert lines[1:] == ["10%", "20%", "cleaning up", "30%", "and gone"]
        (end,) = [event for event in events if event.kind == "job" and event.status == "Error"]
        assert end.reason == "timed out after 2 s"
        assert events.index(end) > max(at for at, event in enumerate(events) if event.kind == "log")
        result = (await flow.job(1)).result
        assert (result["rows"], result["stderr"], result["exit_code"]) == ("3", "30%", "0")
        assert not any("told to stop" in entry["event"] for entry in running.logs)


async def test_a_script_knows_its_flow_and_its_attempt(server: CoordinatorProcess, client: Client) -> None:
    context = new_context()
    script = """
import os, sys
print(os.environ["HERO_FLOW_ID"], os.environ["HERO_ATTEMPT_ID"])
sys.exit(os.environ["HERO_ATTEMPT"] == "1")
"""
    with runner(server.ws, context):
        flow = await submit(client, context, job(1, script, retries=1), id=12)
        events = await flow.ended()

    said = [line.split() for event in events for line in event.lines or []]
    assert [flow_id for flow_id, _ in said] == ["12", "12"]
    assert len({attempt_id for _, attempt_id in said}) == 2


async def test_a_wrong_result_fails_the_job_and_says_where(server: CoordinatorProcess, client: Client) -> None:
    context = new_context()
    with runner(server.ws, context):
        flow = await submit(client, context, job(1, "import os; open(os.environ['HERO_RESULT'], 'w').write('a\\n')"))
        await flow.ended()

    assert (await flow.report()).jobs[0].failure == "HERO_RESULT line 1 is no key=value: 'a'"


async def test_a_result_the_coordinator_cannot_take_fails_the_job_instead_of_being_cut(tmp_path: Path) -> None:
    script = "import os; open(os.environ['HERO_RESULT'], 'w').write('a=' + 'x' * 60_000 + '\\n'); print('the end')"
    with (
        coordinator("--data-dir", str(tmp_path), "--max-frame-bytes", "50000") as server,
        runner(server.ws, 1),
    ):
        async with connect(server.ws) as client:
            flow = await submit(client, 1, job(1, script))
            await flow.ended()
            failed = await flow.job(1)
            failure = (await flow.report()).jobs[0].failure

    assert failed.result == {"stdout": "the end\n", "stderr": "", "exit_code": "0"}
    assert str(failure).startswith("the coordinator has refused the result in HERO_RESULT: ")


async def test_a_variable_that_is_too_large_is_named_and_the_job_not_tried_again(
    server: CoordinatorProcess, client: Client
) -> None:
    context = new_context()
    with runner(server.ws, context):
        flow = await submit(client, context, job(1, "print(1)", retries=5, env_vars={"BIG": "x" * 200_000}))
        await flow.ended()

    (progress,) = (await flow.report()).jobs
    assert (progress.attempt, progress.status) == (1, "Error")
    assert str(progress.failure).startswith("env_vars: BIG takes 200005 bytes; the system allows ")


def turns(beats: Path) -> list[str]:
    """Which attempts wrote, one after the other, each as often as it began to."""
    names = [line.split()[0] for line in beats.read_text().splitlines()]
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


@pytest.mark.parametrize("is_silent", [True, False])
async def test_a_runner_that_is_cut_off_stops_its_scripts_before_another_one_may_begin(
    server: CoordinatorProcess, client: Client, tmp_path: Path, is_silent: bool
) -> None:
    context = new_context()
    beats = tmp_path / "beats"
    async with proxied(urlsplit(server.ws).port or 0) as proxy:
        url = f"ws://127.0.0.1:{urlsplit(proxy.url).port}"
        with runner(url, context, arguments=("--lease", "4", "--id", "1"), wait=False) as first:
            await trio.to_thread.run_sync(first.wait_for_contexts, 1)
            env_vars = {"BEATS": str(beats), "COUNT": "400"}
            flow = await submit(client, context, job(1, BEATS, timeout=0, retries=9, env_vars=env_vars))
            await flow.until_job("Started")
            await until(beats.exists)
            await until(lambda: beats.read_text().count("\n") > 60)  # by now it has confirmed its lease
            pid = int(beats.read_text().split()[1])
            if is_silent:
                proxy.stall()
            else:
                proxy.reject()

            lost = await flow.until_job("Dispatched")

            assert "lost" in str(lost.reason)
            assert not is_running(pid)
            said = "the runner was cut off from the coordinator for longer than the lease, and has stopped the script"
            assert (await trio.to_thread.run_sync(first.wait_for, said))["job"] == 1
            await proxy.pass_all()
            with runner(server.ws, context, arguments=("--id", "2")):
                await flow.ended()

    names = turns(beats)
    assert len(names) == len(set(names)) > 1


async def test_while_the_coordinator_is_away_for_longer_than_the_lease_scripts_are_paused(tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    ports = ("--api-ws-port", str(free_port()), "--data-dir", str(tmp_path / "data"))
    with coordinator(*ports) as server, runner(server.ws, 1, arguments=("--lease", "8")):
        async with connect(server.ws) as client:
            env_vars = {"BEATS": str(beats), "COUNT": "800"}
            flow = await submit(client, 1, job(1, BEATS, timeout=0, retries=5, env_vars=env_vars))
            await flow.until_job("Started")
            await until(beats.exists)
            await until(lambda: beats.read_text().count("\n") > 1)
            pid = int(beats.read_text().split()[1])
            server.kill()
            await until(lambda: state_of(pid) == "T")
            with coordinator(*ports):
                events = await flow.ended()

    assert events[-1].status == "Finished"
    ended = last_attempt(events)
    assert beats.read_text().splitlines()[-1].split()[0].split("-")[3] == str(ended)


def last_attempt(events: list[FlowEvent]) -> int:
    return max(event.attempt or 0 for event in events if event.kind == "job")


async def test_a_runner_that_stops_while_nobody_answers_waits_for_its_last_words_alone(
    server: CoordinatorProcess, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for as long as a call may take, a minute."""
    monkeypatch.setattr(attempt, "_LAST_WORDS", 0.5)
    context = new_context()
    async with proxied(urlsplit(server.ws).port or 0) as proxy, trio.open_nursery() as nursery:
        url = f"ws://127.0.0.1:{urlsplit(proxy.url).port}"
        service = Service(RunnerSettings(url=url, context=(context,), lease=2))
        flow = await submit(client, context, job(1, "import time\nwhile True: print(1, flush=True); time.sleep(0.1)"))
        nursery.start_soon(service.run)
        await flow.first_line()
        proxy.stall()
        service.stop()

        with trio.fail_after(30):
            while nursery.child_tasks:
                await trio.sleep(0.1)
