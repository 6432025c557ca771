"""`herocoordinator bench` with jobs that run: flows, and changes that are told to many."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from coordinator.cli.bench import bench
from coordinator.client import connect
from coordinator.load.crew import crew
from coordinator.load.measured import Measured
from coordinator.load.plan import JobsPlan, LoadFailed, Plan
from coordinator.load.processes import generators
from coordinator.load.report import as_html, as_json, as_prometheus, compared, read
from coordinator.load.run import run_step
from coordinator.load.stage import stage
from tests.access import callers
from tests.cli.test_bench import quiet, stopped
from tests.support.commands import herocoordinator, herocoordinator_started, read_until
from tests.support.server import CoordinatorProcess, coordinator

pytestmark = pytest.mark.slow

PAUSE = 1.0
RATE = 30.0


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    with coordinator("--data-dir", str(tmp_path_factory.mktemp("data")), "--workers", "1") as running:
        yield running


async def measured(server: CoordinatorProcess, plan: Plan, pause: float = 0.0) -> tuple[Measured, dict[str, Any]]:
    """With a coordinator that stands still for so long in between; and what it counts in the first context then."""

    async def stop() -> None:
        await trio.sleep(plan.warm_up + 0.5)
        with stopped(server):
            await trio.sleep(pause)

    async with (
        connect(server.ws) as client,
        stage(plan, client, quiet) as contexts,
        crew(plan, client, contexts, quiet) as runners,
        generators(plan, contexts, runners) as processes,
    ):
        assert len(processes) == plan.processes
        async with trio.open_nursery() as nursery:
            if pause:
                nursery.start_soon(stop)
            found: Measured = await run_step(plan, processes)
        return found, await client.call("context.stats", {"context_id": contexts[0]})


def waited(histogram: Any) -> int:
    """How many took more than half of the pause."""
    return sum(
        item.count_added_in_this_iter_step
        for item in histogram.get_recorded_iterator()
        if item.value_iterated_to > PAUSE / 2 * 1e6
    )


async def test_flows_run_and_those_that_were_due_in_a_pause_have_waited(own: CoordinatorProcess) -> None:
    jobs = JobsPlan(runners=2, capacity=50, width=3, depth=3)
    plan = Plan(
        own.ws, "flows", (), connections=2, window=50, processes=2, seconds=3.0, warm_up=0.3, rate=RATE, jobs=jobs
    )

    found, stats = await measured(own, plan, PAUSE)

    assert found.errors == 0, (found.faults, found.reasons)
    assert found.measured >= 0.9 * RATE * plan.seconds - RATE * 0.3  # on a busy machine many end after the time
    assert stats["flows"]["Finished"] == sum(stats["flows"].values()) >= found.calls
    assert stats["jobs"]["Finished"] == 7 * stats["flows"]["Finished"]
    assert stats["jobs"]["Finished"] >= found.jobs >= 7 * (found.calls - plan.connections * plan.window)
    assert waited(found.histogram) >= RATE * PAUSE / 2 * 0.6
    assert waited(found.waits) >= RATE * PAUSE / 2 * 0.6
    assert found.wait_ms(50) < found.ms(50), "of three jobs one after the other each waits less than its flow takes"
    made = as_json(plan, {}, found, [])
    text = as_prometheus(made)
    waits = found.waits.get_total_count()
    assert f'bench_wait_seconds_count{{scenario="flows",url="{own.ws}"}} {waits}' in text
    assert "flows/s" in as_html([made])
    assert {row[0] for row in compared(made, made)} >= {"flows/s", "jobs/s", "p99 ms", "wait p99 ms"}


@pytest.mark.parametrize("followed", [0, 2])
async def test_each_change_is_told_to_each_subscriber_and_what_is_late_counts(
    own: CoordinatorProcess, followed: int
) -> None:
    subscribers = 6
    each = subscribers / (followed or 1)
    plan = Plan(
        own.ws, "fanout", (), connections=subscribers, processes=2, seconds=3.0, warm_up=0.3, rate=RATE,
        jobs=JobsPlan(runners=1, followed=followed),
    )  # fmt: skip

    found, _ = await measured(own, plan, PAUSE)

    assert found.errors == 0, (found.faults, found.reasons, found.undelivered)
    assert found.calls >= 0.8 * RATE * plan.seconds
    # What was acknowledged and what had arrived when measuring ended differ by what was on its way.
    assert found.messages == pytest.approx(found.calls * each, abs=0.2 * found.calls * each)
    assert found.events >= found.messages
    assert waited(found.histogram) >= RATE * PAUSE / 2 * 0.6 * each


async def test_a_context_in_which_somebody_works_or_that_is_paused_is_left_alone(own: CoordinatorProcess) -> None:
    plan = Plan(own.ws, "flows", (), connections=1, first_context=77, jobs=JobsPlan())

    async with connect(own.ws) as client:

        async def reason() -> str:
            with pytest.raises(LoadFailed) as refused:
                async with stage(plan, client, quiet):
                    pass
            return str(refused.value)

        assert "context 77 is not there" in await reason()
        await client.call("context.create", {"context": {"id": 77, "admins": [7], "readers": [], "executors": []}})
        await client.call("context.pause", {"context_id": 77, "script_type": "Python"})
        assert "paused (Python)" in await reason()
        await client.call("context.resume", {"context_id": 77, "script_type": "Python"})
        record = {"id": 3, "pubkey": "", "address": "127.0.0.1", "topic": "x", "local": True}
        await client.call("runner.create", {"context_id": 77, "runner": record})
        subscribed = {"context_id": 77, "runner_id": 3, "script_types": ["Python"], "capacity": 1}
        held = await client.call("runner.subscribe", subscribed)
        assert "has runners" in await reason()
        await client.call("runner.unsubscribe", {"subscription": held["subscription"]})
        job = {
            "id": 1, "caller_id": 7, "context_id": 77, "script": "print(1)", "script_type": "Python", "timeout": 0,
            "retries": 0, "env_vars": {}, "prerequisites": [], "depends": [],
        }  # fmt: skip
        await client.call("job.create", {"context_id": 77, "job": job})
        assert "has flows or jobs" in await reason()
        few = replace(plan, first_context=None, connections=5, processes=5)
        with pytest.raises(LoadFailed, match="more --contexts, or fewer --processes"):
            async with stage(few, client, quiet) as contexts, crew(few, client, contexts, quiet):
                pass


def test_where_callers_log_in_its_runners_do_and_nothing_is_left_in_a_context_that_stays(tmp_path: Path) -> None:
    token, report = tmp_path / "ada.token", tmp_path / "report.json"
    short = ("--seconds", "0.6", "--warm-up", "0.2", "--connections", "3", "--context", "9", "--runners", "1")
    with coordinator("--data-dir", str(tmp_path / "data"), "--auth", "keys") as server:
        with callers.caller(server, "http", callers.operator_token(tmp_path / "data")) as operator:
            made = callers.token_of_admin(operator, 880, 9)
        token.write_text(made)
        token.chmod(0o600)
        stranger = herocoordinator("bench", server.ws, "--scenario", "flows", *short)
        assert stranger.returncode == 1
        assert "callers log in here" in stranger.stderr
        for scenario in (("flows", "--window", "5"), ("fanout", "--rate", "20", "--follow", "2")):
            given = ("--scenario", *scenario, *short, "--token-file", str(token), "--json", str(report))
            done = herocoordinator("bench", server.ws, *given)
            assert done.returncode == 0, done.stdout + done.stderr
            assert read(report)["result"]["calls"] > 0
            with callers.caller(server, "http", made) as ada:
                stats = ada.result("context.stats", {"context_id": 9})
                assert sum(stats["flows"].values()) == sum(stats["jobs"].values()) == 0
                assert ada.result("runner.list", {"context_id": 9})["items"] == []
            assert made not in json.dumps(read(report)) + done.stdout + done.stderr


def contexts_of(server: CoordinatorProcess) -> list[int]:
    with callers.caller(server, "http") as anybody:
        found: list[int] = anybody.result("context.list", {})["items"]
        return found


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("scenario", "number", "status"),
    [
        ("load", signal.SIGINT, 130),
        ("flows", signal.SIGINT, 130),
        ("load", signal.SIGTERM, 143),
        ("flows", signal.SIGHUP, 129),
    ],
)
def test_an_interrupt_ends_it_at_once_and_nothing_is_left(
    own: CoordinatorProcess, scenario: str, number: int, status: int
) -> None:
    before = contexts_of(own)
    started = herocoordinator_started("bench", own.ws, "--scenario", scenario, "--seconds", "600", "--connections", "2")
    read_until(started, "as fast as answers come")
    until(lambda: len(contexts_of(own)) > len(before))
    time.sleep(2)
    started.send_signal(number)

    _, said = started.communicate(timeout=40)  # a minute is what deleting may take if nothing answers

    assert started.returncode == status
    assert "Traceback" not in said
    assert contexts_of(own) == before


def test_an_interrupt_while_contexts_are_made_leaves_none(own: CoordinatorProcess) -> None:
    before = contexts_of(own)
    started = herocoordinator_started("bench", own.ws, "--contexts", "300", "--connections", "300", "--seconds", "600")
    until(lambda: len(contexts_of(own)) > len(before))
    started.send_signal(signal.SIGINT)

    _, said = started.communicate(timeout=60)

    assert started.returncode == 130
    assert "Traceback" not in said
    assert contexts_of(own) == before


def test_no_load_goes_on_when_who_wants_it_is_killed(own: CoordinatorProcess) -> None:
    started = herocoordinator_started("bench", own.ws, "--seconds", "600", "--processes", "2", "--connections", "2")
    generators = Path(f"/proc/{started.pid}/task/{started.pid}/children")
    until(lambda: len(generators.read_text().split()) == 2)
    read_until(started, "as fast as answers come")
    time.sleep(1)
    pids = [int(pid) for pid in generators.read_text().split()]
    assert len(pids) == 2
    started.kill()
    started.communicate(timeout=30)
    until(lambda: not any(is_alive(pid) for pid in pids))


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("http://127.0.0.1:1", "--scenario", "flows"), "needs a WebSocket"),
        (("--scenario", "fanout", "--width", "3"), "--width means nothing"),
        (("--scenario", "load", "--follow", "3"), "--follow means nothing"),
        (("--scenario", "flows", "--mix", "load=1"), "--mix means nothing"),
        (("--scenario", "flows", "--width", "1000", "--depth", "1000"), "too large for one message"),
    ],
)
def test_what_means_nothing_is_said_in_one_line(arguments: tuple[str, ...], reason: str) -> None:
    done = CliRunner().invoke(bench, arguments)
    assert done.exit_code == 2
    assert reason in done.stderr
