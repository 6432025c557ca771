"""Everything is killed with -9 and started again, stopped for longer than a lease, or cut off without a word, at
random, while flows run of jobs that may not fail once; in the end each is Finished and nothing is left.

HEROCOORDINATOR_CHAOS_SECONDS: how long there is killing; HEROCOORDINATOR_CHAOS_SEED: what is random, as printed.
"""

from __future__ import annotations

import os
import random
import signal
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import trio

from coordinator.client import Client, connect
from coordinator.models import FlowCreate, JobCreate
from tests.support.flows import database, fields_of_job, random_dag, remains
from tests.support.proxy import Proxy, proxied
from tests.support.runner import RunnerProcess
from tests.support.server import CoordinatorProcess, free_port

pytestmark = pytest.mark.slow

SECONDS: Final = float(os.environ.get("HEROCOORDINATOR_CHAOS_SECONDS", "20"))
FLOWS: Final = max(200, int(200 * SECONDS / 20))
CONTEXTS: Final = (1, 2)
RUNNERS: Final = 4
LEASE: Final = "3"
AWAY: Final = 4.5  # seconds that what is stopped or cut off is away: longer than a lease
CALM_DOWN: Final = 120.0  # seconds the rest may take: pauses between attempts double

SCRIPT: Final = """
value=$HERO_JOB_ID-$HERO_ATTEMPT-$(cat /proc/sys/kernel/random/uuid)
printf '%s %s\\n' "$HERO_JOB_ID" "$value" >> "$EFFECTS"
sleep 0.0$((HERO_JOB_ID % 10))
printf 'value=%s\\n' "$value" >> "$HERO_RESULT"
"""
"""An attempt writes down what it did, and tells it as its result."""


class System:
    """A coordinator with its Valkey, and runners; each can be killed or stopped, and comes back. Half of the runners
    reach it through `proxy`, which can fall silent."""

    def __init__(self, directory: Path, rng: random.Random) -> None:
        self._rng = rng
        ports = ("--api-http-port", str(free_port()), "--api-ws-port", str(free_port()))
        self._arguments = ("--data-dir", str(directory), *ports)
        self.server = CoordinatorProcess(*self._arguments)
        self.url = self.server.ws
        self.kills: dict[str, int] = defaultdict(int)
        self.runners: list[RunnerProcess] = []
        self.proxy: Proxy

    def start_runners(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.runners += [self._start_runner(id) for id in range(RUNNERS)]

    def _start_runner(self, id: int) -> RunnerProcess:
        types = ("--type", "Sal=/bin/sh", "--type", "Python=")
        arguments = ("--id", str(id), "--lease", LEASE, "--capacity", "4", *types)
        url = f"ws://127.0.0.1:{self.proxy.port}" if id % 2 else self.url
        return RunnerProcess(url, *CONTEXTS, arguments=arguments, wait=False)

    async def _restart(self) -> None:
        self.server = await trio.to_thread.run_sync(lambda: CoordinatorProcess(*self._arguments))

    async def kill_coordinator(self) -> None:
        self.server.process.kill()
        self.server.process.wait(10)
        await self._restart()

    async def kill_both(self) -> None:
        self.server.kill()
        await self._restart()

    async def kill_valkey(self) -> None:
        for pid in self.server.children():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await trio.lowlevel.checkpoint()

    async def kill_runner(self) -> None:
        id = self._rng.randrange(RUNNERS)
        self.runners[id].kill()
        self.runners[id] = await trio.to_thread.run_sync(self._start_runner, id)

    async def stop_runner(self) -> None:
        await self._stop(self.runners[self._rng.randrange(RUNNERS)].process.pid)

    async def stop_coordinator(self) -> None:
        await self._stop(self.server.process.pid)

    async def _stop(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        try:
            await trio.sleep(AWAY)
        finally:
            os.kill(pid, signal.SIGCONT)

    async def cut_off(self) -> None:
        """Nothing goes either way for a while, then the connections are gone."""
        self.proxy.stall()
        await trio.sleep(AWAY)
        self.proxy.cut(reset=True)
        await self.proxy.pass_all()

    async def disturb(self, seconds: float) -> None:
        """Disturb one after the other, in random order, for so long and each at least once."""
        runner, valkey = self.kill_runner, self.kill_valkey
        stops = [self.stop_runner, self.stop_coordinator, self.cut_off]
        ways = [self.kill_coordinator, self.kill_both, valkey, valkey, runner, runner, runner, *stops]
        ends = trio.current_time() + seconds
        while trio.current_time() < ends:
            self._rng.shuffle(ways)
            for way in ways:
                if trio.current_time() >= ends and way.__name__ in self.kills:
                    continue
                await trio.sleep(self._rng.uniform(0.2, 1.2))
                await way()
                self.kills[way.__name__] += 1

    def stop(self) -> None:
        for running in self.runners:
            running.process.kill()
            running.process.wait(10)
        if self.server.process.poll() is None:
            self.server.kill()


async def submit_flows(client: Client, rng: random.Random, effects: Path) -> dict[tuple[int, int], list[int]]:
    """Submit them over the time of the killing. Returns (context, flow) → its jobs."""
    flows: dict[tuple[int, int], list[int]] = {}
    first = 1
    for id in range(1, FLOWS + 1):
        context = rng.choice(CONTEXTS)
        dag = random_dag(rng, rng.randint(1, 6), first)
        first += len(dag)
        env_vars = {"EFFECTS": str(effects)}
        flow = {"id": id, "caller_id": 7, "context_id": context, "jobs": list(dag), "env_vars": env_vars}
        jobs = [
            fields_of_job(context, job, depends, script=SCRIPT, script_type="Sal", retries=0, lost_retries=50)
            for job, depends in dag.items()
        ]
        await client.flow_submit(
            context_id=context,
            flow=FlowCreate.model_validate(flow),
            jobs=[JobCreate.model_validate(job) for job in jobs],
            timeout=60,
        )
        flows[context, id] = list(dag)
        await trio.sleep(rng.uniform(0, 1.6 * SECONDS / FLOWS))
    return flows


async def until_finished(client: Client, context: int, id: int) -> None:
    async for _ in client.follow_flow(context, id):
        pass
    flow = await client.flow_load(context_id=context, id=id)
    assert flow.status == "Finished", flow


async def finishes(client: Client, context: int, id: int) -> list[int]:
    """The jobs whose result was accepted, as the flow's events tell."""
    page: Any = await client.call("flow.events", {"context_id": context, "id": id, "limit": 1000})
    return [event["job_id"] for event in page["events"] if event["kind"] == "job" and event.get("status") == "Finished"]


def attempts_in(effects: Path) -> dict[int, list[str]]:
    """What each job's attempts wrote."""
    attempts: dict[int, list[str]] = defaultdict(list)
    for line in effects.read_text().splitlines():
        id, value = line.split()
        attempts[int(id)].append(value)
    return attempts


@pytest.mark.timeout(SECONDS + CALM_DOWN + 120)
async def test_every_flow_finishes_once_whatever_happens_meanwhile(tmp_path: Path) -> None:
    seed = int(os.environ.get("HEROCOORDINATOR_CHAOS_SEED", random.SystemRandom().randrange(10**6)))
    print("HEROCOORDINATOR_CHAOS_SEED", seed)
    rng = random.Random(seed)
    effects = tmp_path / "effects"
    system = System(tmp_path / "data", random.Random(seed + 1))
    try:
        async with proxied(urlsplit(system.url).port or 0) as proxy, connect(system.url, timeout=60) as client:
            await trio.to_thread.run_sync(system.start_runners, proxy)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(system.disturb, SECONDS)
                flows = await submit_flows(client, rng, effects)
            print(dict(system.kills))
            assert len(system.kills) == 7

            with trio.fail_after(CALM_DOWN):
                async with trio.open_nursery() as nursery:
                    for context, id in flows:
                        nursery.start_soon(until_finished, client, context, id)

            written = attempts_in(effects)
            for (context, flow), jobs in flows.items():
                assert sorted(await finishes(client, context, flow)) == jobs
                for id in jobs:
                    job = await client.job_load(context_id=context, caller_id=7, id=id)
                    assert job.status == "Finished"
                    assert written[id].count(job.result["value"]) == 1
            print(sum(map(len, written.values())), "attempts at", sum(map(len, flows.values())), "jobs")

        for context in CONTEXTS:
            assert remains(database(tmp_path / "data", context)) == {}
    finally:
        await trio.to_thread.run_sync(system.stop)
