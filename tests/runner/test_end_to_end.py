"""A real runner and a real coordinator: flows run, and survive the death of either."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from coordinator.client import Client, connect
from coordinator.runner.output import TAIL_BYTES
from tests.runner.test_execute import FAMILY
from tests.support.commands import herocoordinator
from tests.support.processes import is_running
from tests.support.runner import job, new_context, runner, submit
from tests.support.server import CoordinatorProcess, coordinator, free_port
from tests.support.waiting import until

pytestmark = pytest.mark.slow

WAITING = """
import os, time
print(os.getpid(), flush=True)
while not os.path.exists(os.environ["GO"]):
    time.sleep(0.01)
print("went")
"""

SUM = """
import json, os
inputs = json.load(open(os.environ["HERO_INPUTS"]))
total = sum(int(result["value"]) for result in inputs.values()) + int(os.environ["ADD"])
open(os.environ["HERO_RESULT"], "w").write(f"value={total}\\n")
print("sum", total)
"""


@pytest.fixture
async def client(server: CoordinatorProcess) -> AsyncIterator[Client]:
    async with connect(server.ws) as connected:
        yield connected


async def test_a_diamond_of_jobs_passes_its_results_on(server: CoordinatorProcess, client: Client) -> None:
    context = new_context()
    with runner(server.ws, context, arguments=("--capacity", "4", "--id", "12")):
        flow = await submit(
            client,
            context,
            job(1, SUM, env_vars={"ADD": "1"}),
            job(2, SUM, depends=[1], env_vars={"ADD": "10"}),
            job(3, SUM, depends=[1]),
            job(4, SUM, depends=[2, 3]),
            env_vars={"ADD": "100"},
        )
        events = await flow.ended()

    results = await flow.results()
    assert results == {"4": {"value": "212", "stdout": "sum 212\n", "stderr": "", "exit_code": "0"}}
    ends = [event.job_id or 0 for event in events if event.status == "Finished" and event.kind == "job"]
    assert (ends[0], ends[-1], sorted(ends)) == (1, 4, [1, 2, 3, 4])
    logged = {event.job_id: event.lines for event in events if event.kind == "log"}
    assert logged == {1: ["sum 1"], 2: ["sum 11"], 3: ["sum 101"], 4: ["sum 212"]}
    assert {event.topic for event in events if event.status == "Started" and event.kind == "job"} == {"runner12"}
    known = await client.runner_load(context_id=context, id=12)
    assert (known.topic, known.local, known.address) == ("runner12", True, "127.0.0.1")


async def test_a_failing_job_is_tried_again(server: CoordinatorProcess, client: Client) -> None:
    context = new_context()
    script = "import os, sys; sys.exit(None if os.environ['HERO_ATTEMPT'] == '3' else 'not yet')"
    with runner(server.ws, context):
        flow = await submit(client, context, job(1, script, retries=2))
        events = await flow.ended()

    assert [event.reason for event in events if event.reason] == ["exit status 1: not yet"] * 2
    assert (await flow.report()).jobs[0].attempt == 3
    assert (await flow.results())["1"]["exit_code"] == "0"


async def test_a_job_out_of_attempts_fails_its_flow_and_keeps_its_result(
    server: CoordinatorProcess, client: Client
) -> None:
    context = new_context()
    script = 'echo "rows=3" > "$HERO_RESULT"; echo "no such table" >&2; exit 4'
    with runner(server.ws, context, arguments=("--type", "Sal=/bin/sh")):
        flow = await submit(client, context, job(1, script, script_type="Sal"), job(2, "print(1)", depends=[1]))
        await flow.ended()

    report = await flow.report()
    assert report.flow.status == "Error"
    assert "exit status 4: no such table" in report.flow.result["error"]
    assert [one.status for one in report.jobs] == ["Error", "WaitingForPrerequisites"]
    failed = await flow.job(1)
    assert failed.result == {"rows": "3", "stdout": "", "stderr": "no such table\n", "exit_code": "4"}


async def test_a_variable_that_cannot_be_is_not_tried_again(server: CoordinatorProcess, client: Client) -> None:
    context = new_context()
    with runner(server.ws, context):
        flow = await submit(client, context, job(1, "print(1)", retries=5, env_vars={"A=B": "x"}))
        await flow.ended()

    report = await flow.report()
    assert report.jobs[0].attempt == 1
    assert "env_vars" in str(report.jobs[0].failure)


async def test_a_timeout_ends_the_whole_family_of_a_script(server: CoordinatorProcess, client: Client) -> None:
    context = new_context()
    with runner(server.ws, context, arguments=("--kill-grace", "0.1")):
        flow = await submit(client, context, job(1, FAMILY + "time.sleep(600)", timeout=5))
        pids = [int(word) for word in (await flow.first_line()).split()]
        assert len(pids) == 3
        await flow.ended()
        await until(lambda: not any(map(is_running, pids)))

        again = await submit(client, context, job(2, "print(1)"), id=2)
        await again.ended()

    assert "timed out" in (await flow.report()).flow.result["error"]
    assert (await again.results())["2"]["stdout"] == "1\n"


async def test_a_cancelled_flow_ends_its_scripts_and_the_runner_goes_on(
    server: CoordinatorProcess, client: Client
) -> None:
    context = new_context()
    with runner(server.ws, context, arguments=("--kill-grace", "0.1", "--capacity", "1")) as running:
        flow = await submit(client, context, job(1, FAMILY + "time.sleep(600)"))
        pids = [int(word) for word in (await flow.first_line()).split()]

        await client.flow_cancel(context_id=context, id=1, reason="changed my mind")

        await until(lambda: not any(map(is_running, pids)))
        again = await submit(client, context, job(2, "print(1)"), id=2)
        await again.ended()
        assert running.wait_for("told to stop a job")["job"] == 1
    assert (await again.results())["2"]["stdout"] == "1\n"


async def test_a_job_longer_than_its_lease_is_kept(server: CoordinatorProcess, client: Client) -> None:
    context = new_context()
    with runner(server.ws, context, arguments=("--lease", "2")):
        flow = await submit(client, context, job(1, "import time; time.sleep(5)", retries=3))
        events = await flow.ended()

    assert [event.status for event in events if event.kind == "job"] == ["Started", "Finished"]


async def test_a_killed_runner_loses_its_job_to_another(
    server: CoordinatorProcess, client: Client, tmp_path: Path
) -> None:
    context = new_context()
    go = tmp_path / "go"
    with runner(server.ws, context, arguments=("--id", "1", "--lease", "2")) as first:
        flow = await submit(client, context, job(1, WAITING, retries=1, env_vars={"GO": str(go)}))
        pid = int(await flow.first_line())
        with runner(server.ws, context, arguments=("--id", "2")):
            first.kill()
            await until(lambda: not is_running(pid))
            second = await flow.until_job("Started", attempt=2)
            go.touch()
            await flow.ended()

    assert second.runner_id == 2
    assert (await flow.results())["1"]["stdout"].endswith("\nwent\n")


@pytest.mark.parametrize("ends_meanwhile", [False, True])
async def test_a_job_goes_on_while_the_coordinator_is_killed_and_started_again(
    tmp_path: Path, ends_meanwhile: bool
) -> None:
    go = tmp_path / "go"
    ports = ("--api-ws-port", str(free_port()), "--data-dir", str(tmp_path / "data"))
    with coordinator(*ports) as server, runner(server.ws, 1, arguments=("--lease", "20")) as running:
        async with connect(server.ws) as client:
            flow = await submit(client, 1, job(1, WAITING, retries=2, env_vars={"GO": str(go)}))
            pid = int(await flow.first_line())
            server.kill()
            if ends_meanwhile:
                go.touch()
                await until(lambda: any(entry["event"] == "job ended" for entry in list(running.logs)))
            with coordinator(*ports):
                if not ends_meanwhile:
                    assert is_running(pid)
                    await until(lambda: sum(entry["event"] == "connected" for entry in list(running.logs)) == 2)
                    go.touch()
                events = await flow.ended()
                assert (await flow.results())["1"]["stdout"] == f"{pid}\nwent\n"

    assert [event.attempt for event in events if event.status == "Started" and event.kind == "job"] == [1]


async def test_a_job_lost_while_the_connection_was_away_is_stopped(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    port = ("--api-ws-port", str(free_port()))
    with coordinator(*port, *data) as server, runner(server.ws, 1, arguments=("--kill-grace", "0.1")) as running:
        async with connect(server.ws) as client:
            flow = await submit(client, 1, job(1, FAMILY + "time.sleep(600)"))
            pids = [int(word) for word in (await flow.first_line()).split()]
        server.kill()
        with coordinator(*data) as elsewhere:
            async with connect(elsewhere.ws) as client:
                await client.flow_cancel(context_id=1, id=1)
        assert all(map(is_running, pids))
        with coordinator(*port, *data):
            await until(lambda: not any(map(is_running, pids)))
        assert "lost" in running.wait_for("told to stop a job")["reason"]


async def test_a_job_cancelled_after_unsubscribing_is_stopped_by_its_heartbeat(
    server: CoordinatorProcess, client: Client
) -> None:
    context = new_context()
    with runner(server.ws, context, arguments=("--lease", "0.6", "--kill-grace", "0.1")) as running:
        flow = await submit(client, context, job(1, FAMILY + "time.sleep(600)"))
        pids = [int(word) for word in (await flow.first_line()).split()]
        running.signal(signal.SIGTERM)
        await trio.to_thread.run_sync(running.wait_for, "unsubscribed")

        await client.flow_cancel(context_id=context, id=1)

        assert await trio.to_thread.run_sync(running.process.wait, 20) == 0
    assert not any(map(is_running, pids))


async def test_an_outcome_the_store_refuses_is_reported_until_it_is_taken(tmp_path: Path) -> None:
    arguments = ("--data-dir", str(tmp_path / "data"), "--request-timeout", "0.5", "--store-timeout", "60")
    go = tmp_path / "go"
    script = "import os, time\nwhile not os.path.exists(os.environ['GO']): time.sleep(0.01)"
    with coordinator(*arguments) as server, runner(server.ws, 1) as running:
        async with connect(server.ws) as client:
            flow = await submit(client, 1, job(1, script, env_vars={"GO": str(go)}))
            await flow.until_job("Started")
            (store,) = server.children()
            os.kill(store, signal.SIGSTOP)
            go.touch()
            await until(lambda: any("not reported yet" in entry["event"] for entry in list(running.logs)))
            os.kill(store, signal.SIGCONT)
            events = await flow.ended()

    assert [event.status for event in events if event.kind == "job"] == ["Started", "Finished"]


async def test_a_result_that_does_not_fit_the_coordinator_is_shortened(tmp_path: Path) -> None:
    script = "import os; print('\\0' * 60_000); print('the end'); open(os.environ['HERO_RESULT'], 'w').write('a=1\\n')"
    with (
        coordinator("--data-dir", str(tmp_path), "--max-frame-bytes", "50000") as server,
        runner(server.ws, 1) as running,
    ):
        async with connect(server.ws) as client:
            flow = await submit(client, 1, job(1, script))
            events = await flow.ended()
            result = (await flow.results())["1"]

    assert result["stdout"].endswith("\nthe end\n")
    assert (result["a"], result["exit_code"]) == ("1", "0")
    assert [event.attempt for event in events if event.status == "Started" and event.kind == "job"] == [1]
    assert running.wait_for("a job's outcome was refused")


async def test_a_coordinator_that_lost_its_data_is_registered_with_again(tmp_path: Path) -> None:
    port = ("--api-ws-port", str(free_port()))
    with coordinator(*port, "--data-dir", str(tmp_path / "old")) as server, runner(server.ws, 1) as running:
        server.kill()
        with coordinator(*port, "--data-dir", str(tmp_path / "new")) as fresh:
            async with connect(fresh.ws) as client:
                flow = await submit(client, 1, job(1, "print(1)"))
                await flow.ended()
                assert (await flow.results())["1"]["stdout"] == "1\n"
        assert running.wait_for("the coordinator does not know this runner any more; registering again")


async def test_a_runner_may_be_there_before_the_coordinator(tmp_path: Path) -> None:
    port = free_port()
    with runner(f"ws://127.0.0.1:{port}", 1, wait=False) as running:
        await until(lambda: any("no connection" in entry["event"] for entry in list(running.logs)))
        with coordinator("--api-ws-port", str(port), "--data-dir", str(tmp_path)) as server:
            async with connect(server.ws) as client:
                flow = await submit(client, 1, job(1, "print(1)"))
                await flow.ended()
            assert running.stop() == 0


async def test_told_to_stop_it_finishes_what_it_holds_and_takes_no_more(
    server: CoordinatorProcess, client: Client, tmp_path: Path
) -> None:
    context = new_context()
    go = tmp_path / "go"
    with runner(server.ws, context, arguments=("--capacity", "2")) as running:
        flow = await submit(client, context, job(1, WAITING, env_vars={"GO": str(go)}))
        await flow.first_line()

        running.signal(signal.SIGTERM)
        await trio.to_thread.run_sync(running.wait_for, "unsubscribed")
        later = await submit(client, context, job(2, "print(1)"), id=2)
        go.touch()
        await flow.ended()

        assert await trio.to_thread.run_sync(running.process.wait, 20) == 0
    assert (await flow.results())["1"]["stdout"].endswith("went\n")
    assert (await later.job(2)).status == "Dispatched"


async def test_told_to_stop_twice_it_kills_what_runs_and_says_so(server: CoordinatorProcess, client: Client) -> None:
    context = new_context()
    with runner(server.ws, context, arguments=("--lease", "600")) as running:
        flow = await submit(client, context, job(1, FAMILY + "time.sleep(600)"))
        pids = [int(word) for word in (await flow.first_line()).split()]

        running.signal(signal.SIGINT)
        await trio.to_thread.run_sync(running.wait_for, "taking no more jobs")
        assert all(map(is_running, pids))
        running.signal(signal.SIGTERM)

        assert await trio.to_thread.run_sync(running.process.wait, 20) == 0
    assert not any(map(is_running, pids))
    (progress,) = (await flow.report()).jobs
    assert (progress.status, progress.lost, progress.failure) == ("Dispatched", 1, "the runner was stopped")


async def test_an_idle_runner_stops_at_once(server: CoordinatorProcess) -> None:
    with runner(server.ws, new_context(), new_context()) as running:
        assert running.stop() == 0


async def test_a_runner_that_finds_no_coordinator_stops_at_once() -> None:
    with runner(f"ws://127.0.0.1:{free_port()}", 1, wait=False) as running:
        await until(lambda: any("no connection" in entry["event"] for entry in list(running.logs)))
        assert running.stop() == 0


async def test_a_temporary_directory_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", ".")
    with coordinator("--data-dir", "data") as relative, runner(relative.ws, 1):
        async with connect(relative.ws) as client:
            flow = await submit(client, 1, job(1, "import os; open(os.environ['HERO_RESULT'], 'w').write('a=b')"))
            await flow.ended()
            assert (await flow.results())["1"]["a"] == "b"


async def test_it_works_in_several_contexts(server: CoordinatorProcess, client: Client) -> None:
    contexts = [new_context(), new_context()]
    with runner(server.ws, *contexts):
        flows = [await submit(client, context, job(1, f"print({context})")) for context in contexts]
        for flow in flows:
            await flow.ended()

    assert [(await flow.results())["1"]["stdout"] for flow in flows] == [f"{context}\n" for context in contexts]


async def test_it_takes_only_types_it_can_run(server: CoordinatorProcess, client: Client, tmp_path: Path) -> None:
    context = new_context()
    with runner(server.ws, context, arguments=("--type", "Sal=/bin/sh -s x", "--type", "Python=")):
        python = await submit(client, context, job(1, "print(1)"))
        shell = await submit(client, context, job(2, "echo $1", script_type="Sal"), id=2)
        await shell.ended()

    assert (await shell.results())["2"]["stdout"] == "x\n"
    assert (await python.job(1)).status == "Dispatched"


async def test_output_of_any_bytes_and_size_is_reported(server: CoordinatorProcess, client: Client) -> None:
    context = new_context()
    script = """
import os, sys
for stream in (sys.stdout, sys.stderr):
    stream.buffer.write(b"\\x00" * 300_000 + b"\\xff" * 300_000 + "é\\n".encode())
open(os.environ["HERO_RESULT"], "w").write("a=" + "\\x01" * 60_000 + "\\n")
"""
    with runner(server.ws, context):
        flow = await submit(client, context, job(1, script))
        events = await flow.ended()

    result = (await flow.results())["1"]
    assert result["a"] == "\x01" * 60_000
    assert result["stdout"].endswith("\ufffdé\n")
    assert len(result["stdout"]) <= TAIL_BYTES
    logs = [event for event in events if event.kind == "log"]
    assert sum(len(line) for event in logs for line in event.lines or []) > 1_000_000
    lines = [line for event in logs if event.stream == "stderr" for line in event.lines or []]
    assert lines[-1] == "[more than 1048576 bytes of output; the rest is not logged]"


async def test_many_small_jobs_finish_no_more_at_once_than_the_capacity(
    server: CoordinatorProcess, client: Client
) -> None:
    context = new_context()
    count = 60
    with runner(server.ws, context, arguments=("--capacity", "8", "--type", "Sal=/bin/sh")) as running:
        flow = await submit(
            client, context, *(job(id, "echo $HERO_JOB_ID", script_type="Sal") for id in range(1, count + 1))
        )
        await flow.ended()

    at_once = most = 0
    for entry in running.logs:
        at_once += {"job started": 1, "job ended": -1}.get(entry["event"], 0)
        most = max(most, at_once)
    assert most == 8
    assert {id: result["stdout"] for id, result in (await flow.results()).items()} == {
        str(id): f"{id}\n" for id in range(1, count + 1)
    }


# -- the command line


@pytest.mark.parametrize(
    ("arguments", "explanation"),
    [
        ((), "--context"),
        (("--context", "-1"), "--context"),
        (("--context", "1", "--url", "ftp://x"), "ws://"),
        (("--context", "1", "--type", "Ruby=ruby"), "Ruby=ruby"),
        (("--context", "1", "--type", "Sal=/no/such/thing"), "/no/such/thing"),
        (("--context", "1", "--capacity", "0"), "--capacity"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments: tuple[str, ...], explanation: str) -> None:
    ran = herocoordinator("runner", *arguments)

    assert ran.returncode == 2
    assert explanation in ran.stderr
    assert "Traceback" not in ran.stderr


def test_settings_come_from_the_environment_too(server: CoordinatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = [new_context(), new_context()]
    monkeypatch.setenv("HEROCOORDINATOR_RUNNER_CONTEXT", " ".join(map(str, contexts)))
    monkeypatch.setenv("HEROCOORDINATOR_RUNNER_SHARED", "true")
    monkeypatch.setenv("HEROCOORDINATOR_RUNNER_TYPE", "Sal=/bin/sh -e; V=/bin/cat")

    with runner(server.ws) as running:
        running.wait_for_contexts(2)

    waiting = [entry for entry in running.logs if entry["event"] == "waiting for jobs"]
    assert sorted(entry["context"] for entry in waiting) == contexts
    assert waiting[0]["script_types"] == ["Python", "Sal", "V"]


def test_help_explains_what_a_script_gets() -> None:
    shown = " ".join(herocoordinator("runner", "--help").stdout.split())

    for word in ("HERO_RESULT", "HERO_INPUTS", "HEROCOORDINATOR_RUNNER_MEMORY_LIMIT", "[default: ws://127.0.0.1:9653]"):
        assert word in shown


async def test_a_runner_that_cannot_run_scripts_takes_none_until_it_can(
    server: CoordinatorProcess, client: Client, tmp_path: Path
) -> None:
    """Its disk is full, it has no process left, or its interpreter was removed: jobs wait, or go to another runner."""
    shell, go = tmp_path / "shell", tmp_path / "go"
    shell.symlink_to("/bin/sh")
    context = new_context()
    arguments = ("--type", f"Sal={shell}", "--type", "Python=", "--capacity", "3")
    with runner(server.ws, context, arguments=arguments) as running:
        long = await submit(
            client,
            context,
            job(1, f"echo begun; until [ -e {go} ]; do sleep 0.05; done; echo kept", script_type="Sal"),
            id=1,
        )
        assert await long.first_line() == "begun"
        shell.unlink()

        flow = await submit(client, context, *(job(id, "echo done", script_type="Sal") for id in range(2, 12)), id=2)
        running.wait_for("scripts cannot be run here; taking no jobs until they can")
        with trio.fail_after(30):
            while any((await client.runner_connected(context_id=context)).script_types.values()):
                await trio.sleep(0.05)
        go.touch()
        await long.ended()
        assert (await flow.report()).flow.status == "Started"
        shell.symlink_to("/bin/sh")
        running.wait_for("scripts can be run here again")
        await flow.ended()

        assert (await long.results())["1"]["stdout"] == "begun\nkept\n"
        report = await flow.report()
        assert report.flow.status == "Finished"
        assert 1 <= sum(each.lost or 0 for each in report.jobs) <= 2  # for so many there was a place
        assert {each.attempt - (each.lost or 0) for each in report.jobs} == {1}


async def test_a_missing_interpreter_keeps_a_runner_from_scripts_of_its_type_alone(
    server: CoordinatorProcess, client: Client, tmp_path: Path
) -> None:
    shell = tmp_path / "shell"
    context = new_context()
    with runner(server.ws, context, arguments=("--type", f"Sal={shell}"), wait=False) as refused:
        assert await trio.to_thread.run_sync(refused.process.wait, 60) == 2
    shell.symlink_to("/bin/sh")
    with runner(server.ws, context, arguments=("--type", f"Sal={shell}", "--capacity", "1")) as running:
        shell.unlink()
        waiting = await submit(client, context, job(1, "echo done", script_type="Sal", retries=0))
        running.wait_for("scripts still cannot be run here")
        others = await submit(client, context, *(job(id, "print(1)") for id in (2, 3)), id=2)
        await others.ended()

        assert (await others.report()).flow.status == "Finished"
        assert (await waiting.job(1)).status == "Dispatched"
        with trio.fail_after(60):
            while (await client.runner_connected(context_id=context)).script_types["Sal"]:
                await trio.sleep(0.1)
        assert (await client.runner_connected(context_id=context)).script_types["Python"] == 1
        shell.symlink_to("/bin/sh")
        await waiting.ended()
        assert (await waiting.results())["1"]["stdout"] == "done\n"
