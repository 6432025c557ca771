"""`herocoordinator flow …` against a real coordinator and the shipped runner."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.client import Client, connect
from tests.cli.conftest import Flows
from tests.support.commands import herocoordinator, herocoordinator_started, read_until
from tests.support.runner import new_context, runner
from tests.support.server import CoordinatorProcess, coordinator, free_port
from tests.support.waiting import until_sync

CHAIN = """
name = "sums"
env = { FIRST = "20" }

[jobs.one]
script = '''
import os
print("one is", os.environ["FIRST"])
print("value=" + os.environ["FIRST"], file=open(os.environ["HERO_RESULT"], "w"))
'''

[jobs.two]
depends = ["one"]
script = '''
import json, os
one = json.load(open(os.environ["HERO_INPUTS"]))[json.loads(os.environ["HERO_DEPENDS"])["one"]]
print("two has read", one["value"])
print("sum=" + str(int(one["value"]) + 2), file=open(os.environ["HERO_RESULT"], "w"))
'''
"""

WAITING = """
[jobs.first]
script = "print('here')"

[jobs.second]
depends = ["first"]
prerequisites = ["never"]
script = ""
"""


def failing_until(flag: Path) -> str:
    return f"""
[jobs.good]
script = "print('good')"

[jobs.bad]
depends = ["good"]
script = '''
import os, sys
if not os.path.exists("{flag}"):
    sys.exit("there is no flag")
print("flag found")
'''
"""


def waiting_for(flag: Path) -> str:
    return f"""
[jobs.a]
script = '''
import os, time
print("here")
while not os.path.exists("{flag}"):
    time.sleep(0.05)
print("done")
'''
"""


def id_in(output: str) -> str:
    found = re.search(r"^flow (\d+)", output, re.M)
    assert found, output
    return found[1]


# -- run


def test_run_follows_to_the_end_prints_the_last_jobs_results_and_exits_with_0(flows: Flows) -> None:
    done = flows("run", flows.file(CHAIN))

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert re.fullmatch(rf"flow \d+ \(sums\): 2 jobs in context {flows.context}", lines[0])
    assert [line for line in lines if " | " in line] == ["one | one is 20", "two | two has read 20"]
    assert [line.partition(" (")[0] for line in lines if " > " in line] == [
        "one > Started",
        "one > Finished",
        "two > Started",
        "two > Finished",
    ]
    assert re.fullmatch(r"flow \d+ \(sums\) Finished after [\d.]+ s", lines[-3])
    assert lines[-2:] == ["two:", "  sum = 22"]


def test_run_prints_whatever_a_result_is_called(flows: Flows) -> None:
    script = "import os; print('$ref=mine', file=open(os.environ['HERO_RESULT'], 'w'))"

    done = flows("run", flows.file(f'[jobs.a]\nscript = "{script}"\n'))

    assert done.stdout.splitlines()[-2:] == ["a:", "  $ref = mine"]


def test_run_takes_yaml_with_script_files_and_the_context_of_the_file(flows: Flows) -> None:
    flows.file("print('from a file')", "script.py")
    path = flows.file(f"context: {flows.context}\njobs:\n- {{name: a, file: script.py}}\n", "flow.yaml")

    done = herocoordinator("flow", "run", *flows.at[:2], path)

    assert done.returncode == 0, done.stderr
    assert "a | from a file" in done.stdout


def test_run_of_a_flow_that_fails_says_what_failed_and_exits_with_1(flows: Flows, tmp_path: Path) -> None:
    done = flows("run", flows.file(failing_until(tmp_path / "flag")))

    assert done.returncode == 1
    id = id_in(done.stdout)
    assert "bad  ! there is no flag" in done.stdout
    assert re.search(rf"^flow {id} Error after .*: .*exit status 1: there is no flag$", done.stdout, re.M)
    assert f"herocoordinator flow retry {id} --follow --context {flows.context}" in done.stderr


def test_run_shows_a_table_on_a_terminal(flows: Flows) -> None:
    near, far = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "coordinator", "flow", "run", *flows.at, flows.file(CHAIN)],
        stdin=subprocess.DEVNULL,
        stdout=far,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "24"},
    ) as process:
        os.close(far)
        shown = b""
        try:
            while data := os.read(near, 65536):
                shown += data
        except OSError:  # how Linux says that nobody writes there any more
            pass
        finally:
            os.close(near)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())

    assert process.returncode == 0
    assert b"\x1b[1A" in shown  # it was drawn more than once
    assert re.search(r"level 1 +two +✔ Finished +[\d.]+ s +attempt 1 +two has read 20", text)
    assert "sum = 22" in text


def test_run_without_a_coordinator_says_so_in_one_line_and_exits_with_3(flows: Flows) -> None:
    done = herocoordinator("flow", "run", "--url", f"ws://127.0.0.1:{free_port()}", flows.file(CHAIN))

    assert done.returncode == 3
    assert done.stdout == ""
    assert "127.0.0.1" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [("none.toml",), ("--url", "ftp://127.0.0.1:1", "x.toml"), ("--context", "-1", "x")]
)
def test_run_with_a_wrong_command_line_or_file_exits_with_2(arguments: tuple[str, ...]) -> None:
    done = herocoordinator("flow", "run", *arguments)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_run_names_the_file_the_job_and_the_field_that_are_wrong(flows: Flows) -> None:
    path = flows.file("[jobs.a]\nscrpt = ''\n")

    done = flows("run", path)

    assert done.returncode == 2
    assert f"{path}: job 'a': scrpt: there is no such field; did you mean 'script'?" in done.stderr


@pytest.mark.slow
def test_run_refuses_an_id_that_is_taken(flows: Flows) -> None:
    path = flows.file(f"id = 12\n{CHAIN}")
    assert flows("run", path).returncode == 0

    again = flows("run", path)

    assert again.returncode == 1
    assert f"there is a flow 12 in context {flows.context} already, it is Finished" in again.stderr


@pytest.mark.slow
def test_without_a_runner_run_says_so_and_goes_on_when_there_is_one(server: CoordinatorProcess, tmp_path: Path) -> None:
    flows = Flows(server.ws, new_context(), tmp_path)
    process = herocoordinator_started("flow", "run", *flows.at, flows.file(CHAIN))
    assert process.stderr is not None

    assert f"herocoordinator runner --context {flows.context}" in process.stderr.readline()

    with runner(server.ws, flows.context):
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "  sum = 22" in output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_flow_running_and_it_is_said_how_to_go_on(flows: Flows, number: signal.Signals) -> None:
    process = herocoordinator_started("flow", "run", *flows.at, flows.file(WAITING))
    assert process.stdout is not None
    id = id_in(process.stdout.readline())
    read_until(process, "here")

    process.send_signal(number)
    _, complaint = process.communicate(timeout=30)

    assert process.returncode == 128 + number
    assert f"herocoordinator flow follow {id} --context {flows.context}" in complaint
    assert f"herocoordinator flow cancel {id} --context {flows.context}" in complaint
    assert flows("show", id).stdout.startswith(f"flow {id} Started")


@pytest.mark.slow
def test_run_gets_over_a_coordinator_that_is_killed_and_started_again(tmp_path: Path) -> None:
    served = ("--data-dir", str(tmp_path / "data"), "--api-ws-port", str(free_port()))
    flag = tmp_path / "flag"
    with coordinator(*served) as server, runner(server.ws, 1):
        flows = Flows(server.ws, 1, tmp_path)
        process = herocoordinator_started("flow", "run", *flows.at, flows.file(waiting_for(flag)))
        read_until(process, "here")
        server.kill()

        with coordinator(*served):
            flag.touch()
            output, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert "a | done" in output


# -- the others


@pytest.mark.slow
def test_cancel_ends_a_flow_with_its_reason(flows: Flows) -> None:
    id = flows.submitted(WAITING)

    done = flows("cancel", id, "--reason", "no longer needed")

    assert done.returncode == 0
    assert done.stdout == f"flow {id} Error: cancelled: no longer needed\n"
    assert flows("follow", id).returncode == 1


@pytest.mark.slow
def test_retry_runs_the_failed_part_again_and_can_follow_it(flows: Flows, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    id = id_in(flows("run", flows.file(failing_until(flag))).stdout)
    flag.touch()

    done = flows("retry", id, "--follow")

    assert done.returncode == 0, done.stdout
    assert "bad  | flag found" in done.stdout
    assert "good |" not in done.stdout
    assert re.search(rf"^flow {id} Finished", done.stdout, re.M)


@pytest.mark.slow
def test_follow_of_a_flow_that_has_ended_tells_its_end(flows: Flows) -> None:
    id = id_in(flows("run", flows.file(CHAIN)).stdout)

    done = flows("follow", id)

    assert done.returncode == 0
    assert re.match(rf"flow {id} \(sums\) Finished after", done.stdout)
    assert "  sum = 22\n  two has read 20\n" in done.stdout


@pytest.mark.slow
def test_show_has_each_job_by_level_with_its_name_and_the_results(flows: Flows) -> None:
    id = id_in(flows("run", flows.file(CHAIN)).stdout)

    done = flows("show", id)

    assert done.returncode == 0
    title, one, two, *results = done.stdout.splitlines()
    assert title == f"flow {id} (sums) Finished"
    assert re.fullmatch(r"  level 0 +\d+  one  Finished +[\d.]+ s  attempt 1  runner 1", one)
    assert re.fullmatch(r"  level 1 +\d+  two  Finished +[\d.]+ s  attempt 1  runner 1", two)
    assert results[:2] == ["two:", "  sum = 22"]


@pytest.mark.slow
def test_list_has_each_flow_and_can_be_narrowed_to_a_status(flows: Flows) -> None:
    finished = id_in(flows("run", flows.file(CHAIN)).stdout)
    second = int(time.time())
    until_sync(lambda: int(time.time()) > second)  # of the same second they are in the order of their ids
    waiting = flows.submitted(WAITING)

    everything = flows("list").stdout.splitlines()
    started = flows("list", "--status", "Started").stdout.splitlines()

    assert everything[0].split() == ["ID", "STATUS", "JOBS", "CREATED", "NAME"]
    assert [line.split()[0] for line in everything[1:]] == [waiting, finished]
    assert next(line for line in everything if finished in line).split()[-1] == "sums"
    assert [line.split()[:3] for line in started[1:]] == [[waiting, "Started", "2"]]


@pytest.mark.slow
def test_logs_prints_every_line_and_follows_to_the_end(flows: Flows) -> None:
    id = flows.submitted(CHAIN)

    followed = flows("logs", id, "--follow")
    afterwards = flows("logs", id)

    assert (followed.returncode, afterwards.returncode) == (0, 0)
    assert followed.stdout == afterwards.stdout == "one | one is 20\ntwo | two has read 20\n"


@pytest.mark.slow
async def test_logs_come_from_the_results_when_the_events_are_no_longer_kept(
    anyio_backend: str, tmp_path: Path
) -> None:
    with coordinator("--data-dir", str(tmp_path / "data"), "--event-retention", "0.2") as server:
        flows = Flows(server.ws, 1, tmp_path)
        with runner(server.ws, 1):
            id = id_in(flows("run", flows.file(CHAIN)).stdout)
        async with connect(server.ws) as client:
            await events_gone(client, int(id))

        done = flows("logs", id)

    assert done.stdout == "one | one is 20\ntwo | two has read 20\n"
    assert "no longer kept" in done.stderr


async def events_gone(client: Client, id: int) -> None:
    while (await client.flow_events(context_id=1, id=id)).events:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("command", ["show", "follow", "cancel", "retry", "logs"])
def test_a_flow_that_is_not_there_is_said_in_one_line_and_exits_with_1(flows: Flows, command: str) -> None:
    done = flows(command, "404")

    assert done.returncode == 1
    assert "no flow with" in done.stderr
    assert done.stderr.count("\n") == 1


def test_following_a_flow_ends_when_it_is_deleted(server: CoordinatorProcess, flows: Flows) -> None:
    with httpx.Client(base_url=server.http, verify=False) as http:

        def call(method: str, **params: Any) -> None:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"context_id": flows.context, **params}}
            assert "error" not in http.post("/", json=body).json()

        def subscriptions() -> float:
            return float(re.findall(r"^herocoordinator_subscriptions\S* (\S+)$", http.get("/metrics").text, re.M)[0])

        call("flow.create", flow={"id": 1, "caller_id": 1, "context_id": flows.context, "jobs": [], "env_vars": {}})
        before = subscriptions()
        with herocoordinator_started("flow", "follow", *flows.at, "1") as following:
            while subscriptions() == before:
                assert following.poll() is None
                time.sleep(0.05)
            call("flow.delete", id=1)
            _, complaint = following.communicate(timeout=20)

    assert following.returncode == 1
    assert "flow 1 was deleted" in complaint
