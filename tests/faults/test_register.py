"""Records are registers whatever fails: what was acknowledged is not undone, and no older value comes back.

HERO_REGISTER_SECONDS says for how long each of these tests goes on; ten minutes is what a change of this asks for.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.support.processes import command_of
from tests.support.proxy import Proxy, Side, proxied
from tests.support.register import Client, History, Seen, violations
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator, valkey

SECONDS: Final = float(os.environ.get("HERO_REGISTER_SECONDS", "10"))
IN_NAMESPACE: Final = "HERO_IN_NETWORK_NAMESPACE"
CLIENTS: Final = 12
REGISTERS: Final = [(context, id) for context in (1, 2) for id in (1, 2, 3)]
SILENCE: Final = ("--store-timeout", "1")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS * 3 + 170)]

Fault = Callable[[], Awaitable[None]]


async def check(urls: Sequence[str], faults: Sequence[Fault], seed: int) -> History:
    """Clients at work while one fault after the other happens; what they saw must be possible."""
    history = History()
    chance = random.Random(seed)
    happened = 0

    async def fail_again_and_again() -> None:
        nonlocal happened
        while True:
            for fault in chance.sample(faults, len(faults)):
                await trio.sleep(chance.uniform(0.1, 0.8))
                await fault()
                happened += 1

    async with trio.open_nursery() as nursery:
        for number in range(CLIENTS):
            nursery.start_soon(Client(history, urls, REGISTERS, seed * 1000 + number).run)
        nursery.start_soon(fail_again_and_again)
        await trio.sleep(SECONDS)
        while happened < 3 or min(history.acknowledged, history.reads) <= 50:  # on a busy machine
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    print(f"faults {happened}, {vars(history) | {'registers': len(history.registers)}}")
    assert history.violations() == []
    return history


def killed(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


# -- the checker itself


def seen(value: str, *calls: tuple[float, float]) -> Seen:
    """A write, and reads of what it wrote."""
    return Seen(value, [start for start, _ in calls], [end for _, end in calls], len(calls) - 1)


def test_the_checker_accepts_what_one_register_can_show() -> None:
    assert violations([seen("1", (0, 1), (2, 3)), seen("2", (2, 4), (5, 6)), seen("3", (2.5, 3.5))]) == []
    overlapping = [seen("1", (0, 10), (11, 12)), seen("2", (0, 10.5))]
    assert violations(overlapping) == []


def test_the_checker_finds_a_value_that_came_back() -> None:
    assert violations([seen("1", (0, 1), (4, 5)), seen("2", (2, 3))])
    assert violations([seen("1", (0, 1), (6, 7)), seen("2", (0, 2), (8, 9)), seen("3", (3, 4))])
    assert violations([seen("1", (0, 1), (4, 5)), seen("2", (0, 3), (6, 7))])


def test_the_checker_finds_a_value_that_was_refused() -> None:
    refused = seen("1", (0, 1), (2, 3))
    refused.is_refused = True
    assert violations([refused])


# -- faults


async def test_with_the_embedded_store_and_workers_killed(tmp_path: Path) -> None:
    options = ("--data-dir", str(tmp_path), "--workers", "2", "--fsync", "always")
    with coordinator(*options, *SILENCE) as server:

        async def kill_valkey() -> None:
            for pid in server.children():
                if "valkey" in command_of(pid):
                    killed(pid)
            await trio.sleep(0.5)

        async def kill_a_worker() -> None:
            for pid in server.workers()[:1]:
                killed(pid)
            await trio.sleep(1)

        await check([server.http], [kill_valkey, kill_valkey, kill_a_worker], 1)


@asynccontextmanager
async def two_coordinators(store: ValkeyProcess) -> AsyncIterator[tuple[list[CoordinatorProcess], list[Proxy]]]:
    """Each reaches the store through a proxy of its own."""
    async with proxied(store.port) as one, proxied(store.port) as other:
        with contextlib.ExitStack() as stack:

            def start() -> list[CoordinatorProcess]:
                return [stack.enter_context(coordinator("--redis-url", proxy.url, *SILENCE)) for proxy in (one, other)]

            yield await trio.to_thread.run_sync(start), [one, other]


def forbid_closing(store: ValkeyProcess) -> None:
    """Nobody may have connections closed."""
    store.client().execute_command(  # type: ignore[no-untyped-call]
        "ACL", "SETUSER", "default", "-client|kill", "-client|list"
    )


@pytest.mark.parametrize("old", ["closed by the store", "only refused"])
async def test_with_the_way_to_the_store_cut_silent_and_late(tmp_path: Path, old: str) -> None:
    with valkey(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as store:
        if old == "only refused":
            forbid_closing(store)
        async with two_coordinators(store) as (servers, proxies):
            chance = random.Random(2)

            async def cut() -> None:
                chance.choice(proxies).cut(reset=chance.random() < 0.5)

            async def lose_replies() -> None:
                proxy = chance.choice(proxies)
                proxy.stall(Side.TO_CLIENT)
                await trio.sleep(chance.choice([0.05, 0.3, 1.5]))
                proxy.cut()
                await proxy.pass_all()

            async def be_silent() -> None:
                proxy = chance.choice(proxies)
                proxy.stall(*chance.choice([(Side.TO_STORE,), (Side.TO_CLIENT,), tuple(Side)]))
                await trio.sleep(chance.uniform(0.2, 2.5))
                await proxy.pass_all()

            async def be_late() -> None:
                proxy = chance.choice(proxies)
                proxy.hold_back()
                await trio.sleep(chance.uniform(1.2, 3))
                proxy.deliver()

            async def kill_valkey() -> None:
                await trio.to_thread.run_sync(store.kill)
                await trio.to_thread.run_sync(store.start)
                if old == "only refused":
                    await trio.to_thread.run_sync(forbid_closing, store)

            faults = [cut, lose_replies, lose_replies, be_silent, be_late, be_late, kill_valkey]
            await check([server.http for server in servers], faults, 3)


# -- packets lost by the kernel


def _why_not() -> str | None:
    """Why packets cannot be lost here, if so."""
    if os.geteuid() != 0:
        return "a network namespace of one's own is root's"
    if not all(map(shutil.which, ("unshare", "ip", "iptables"))):
        return "unshare, ip or iptables is not installed"
    made = subprocess.run(
        ["unshare", "-n", "sh", "-c", "ip link set lo up && iptables -A INPUT -p tcp --dport 1 -j DROP"],
        capture_output=True,
        check=False,
    )
    return None if made.returncode == 0 else f"the machine does not permit it: {made.stderr.decode()[-200:]}"


def test_with_packets_lost_for_a_while() -> None:
    reason = _why_not()
    if reason is not None:
        pytest.skip(reason)
    inner = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", f"{__file__}::test_in_the_namespace"]
    ran = subprocess.run(
        ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *inner],
        env={**os.environ, IN_NAMESPACE: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    print(ran.stdout[-2000:])
    assert ran.returncode == 0, ran.stdout[-5000:]
    assert "1 passed" in ran.stdout


@pytest.mark.skipif(IN_NAMESPACE not in os.environ, reason="runs in a network namespace of its own, by the test above")
async def test_in_the_namespace(tmp_path: Path) -> None:
    with (
        valkey(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as store,
        coordinator("--redis-url", store.url, *SILENCE) as here,
        coordinator("--redis-url", store.url, *SILENCE) as there,
    ):
        chance = random.Random(4)

        async def lose_packets() -> None:
            end = chance.choice(["--dport", "--sport"])  # what is for the store, or what is from it
            rule = ["INPUT", "-p", "tcp", end, str(store.port), "-j", "DROP"]
            await trio.run_process(["iptables", "-A", *rule])
            await trio.sleep(chance.uniform(0.3, 3))
            await trio.run_process(["iptables", "-D", *rule])
            await trio.sleep(1)

        await check([here.http, there.http], [lose_packets], 5)
