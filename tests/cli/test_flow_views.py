"""What `herocoordinator flow …` says of flows whose jobs wait, failed or are gone, and of many flows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from coordinator.client import connect
from coordinator.models import FlowCreate, JobCreate
from tests.cli.conftest import Flows
from tests.support.commands import herocoordinator, herocoordinator_started
from tests.support.runner import new_context, runner
from tests.support.server import CoordinatorProcess

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _on_trio(anyio_backend: str) -> None:
    """Coroutine tests run on trio."""


@pytest.fixture
def alone(server: CoordinatorProcess, flows: Flows) -> Flows:
    """Commands in a context without a runner."""
    return Flows(server.ws, new_context(), flows.directory)


def flow_of(context: int, id: int, jobs: list[int]) -> FlowCreate:
    return FlowCreate(id=id, caller_id=1, context_id=context, jobs=jobs, env_vars={})


TWO_TYPES = """
[jobs.build]
script = "print('built')"

[jobs.check]
type = "V"
depends = ["build"]
script = "while [ ! -e FLAG ]; do sleep 0.1; done; echo checked"
"""


def test_run_says_which_types_no_runner_takes_at_start_and_when_one_is_there(
    server: CoordinatorProcess, flows: Flows, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    process = herocoordinator_started("flow", "run", *flows.at, flows.file(TWO_TYPES.replace("FLAG", str(flag))))
    assert process.stderr is not None

    said = process.stderr.readline()
    assert "no runner that takes V jobs is connected" in said
    assert f"herocoordinator runner --type V=COMMAND --context {flows.context}" in said

    with runner(server.ws, flows.context, arguments=("--type", "V=/bin/sh", "--type", "Python=", "--id", "77")):
        assert "a runner that takes V jobs is connected now" in process.stderr.readline()
        flag.touch()
        output, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    assert "check | checked" in output


def test_run_says_so_when_the_last_runner_goes_while_it_waits(server: CoordinatorProcess, alone: Flows) -> None:
    waiting = "[jobs.a]\nprerequisites = ['never']\nscript = ''\n"
    with runner(server.ws, alone.context):
        process = herocoordinator_started("flow", "run", *alone.at, alone.file(waiting))
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()

    said = process.stderr.readline()

    process.terminate()
    process.communicate()
    assert "no runner that takes Python jobs is connected" in said


async def test_list_has_the_newest_first_with_time_and_zone_and_says_what_it_leaves_out(
    server: CoordinatorProcess, alone: Flows
) -> None:
    async with connect(server.ws) as client:
        for id in (20, 30, 10):
            await client.flow_create(context_id=alone.context, flow=flow_of(alone.context, id, []))
            await trio.sleep(1.1)  # created_at is in seconds

    everything = herocoordinator("flow", "list", *alone.at, "--all", env={"TZ": "Asia/Kolkata"})
    some = alone("list", "--limit", "2")

    rows = everything.stdout.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["10", "30", "20"]
    assert all(re.search(r" \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0530$", row) for row in rows)
    assert everything.stderr == ""
    assert [row.split()[0] for row in some.stdout.splitlines()[1:]] == ["10", "30"]
    assert "the newest 2 of 3 flows; --limit N or --all lists more" in some.stderr


async def test_list_has_no_more_than_its_limit_of_many(server: CoordinatorProcess, alone: Flows) -> None:
    calls = [
        ("flow.create", {"context_id": alone.context, "flow": flow_of(alone.context, id, [])}) for id in range(1, 1501)
    ]
    async with connect(server.ws) as client:
        await client.call_many(calls)

    done = alone("list")

    assert len(done.stdout.splitlines()) == 1 + 20
    assert "the newest 20 of 1500 flows" in done.stderr


FAILING = """
[jobs.fetch]
script = "raise SystemExit('no network')"

[jobs.clean]
depends = ["fetch"]
script = ""

[jobs.report]
depends = ["clean"]
script = ""
"""


def test_a_failed_job_is_named_as_in_the_file_also_where_others_fail_by_it(flows: Flows) -> None:
    done = flows("run", flows.file(FAILING))

    found = re.search(r"^flow (\d+) Error after [^:]*: (.*)$", done.stdout, re.M)
    assert found is not None
    assert found[2] == "job fetch: exit status 1: no network"
    assert "\n  fetch: exit status 1: no network\n" in done.stdout
    shown = flows("show", found[1]).stdout
    assert shown.startswith(f"flow {found[1]} Error: job fetch: exit status 1: no network\n")
    for name in ("clean", "report"):
        assert re.search(rf"^ +level \d +\d+ +{name} .*not run: job fetch failed$", shown, re.M)
    followed = flows("follow", found[1])
    assert "job fetch: exit status 1" in followed.stdout


async def test_a_flow_that_lost_a_job_is_shown_and_says_so(server: CoordinatorProcess, alone: Flows) -> None:
    job = JobCreate(
        id=5,
        caller_id=1,
        context_id=alone.context,
        script="",
        script_type="Python",
        timeout=0,
        retries=0,
        env_vars={"HERO_JOB_NAME": "kept"},
        prerequisites=[],
        depends=[6],
    )
    async with connect(server.ws) as client:
        await client.job_create(context_id=alone.context, job=job)
        await client.flow_create(context_id=alone.context, flow=flow_of(alone.context, 1, [5, 6]))
        report = await client.flow_status(context_id=alone.context, id=1)

    done = alone("show", "1")

    assert report.missing == [6]
    assert [progress.id for progress in report.jobs] == [5]
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ +level 0 +5 +kept +Dispatched$", done.stdout, re.M)
    assert "1 job that it lists is no longer there: 6" in done.stdout
