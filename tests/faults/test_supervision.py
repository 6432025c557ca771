"""A fault in any task of a coordinator: the process goes on, and nobody's call, job or event is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog.testing
import trio

from coordinator.accepting import LastingListener
from coordinator.actors.directory import Directory
from coordinator.engine import engine as engine_module
from coordinator.engine.engine import Engine
from coordinator.engine.membership import Membership
from coordinator.engine.pubsub import PubSub
from coordinator.engine.ticks import Ticks
from coordinator.engine.timers import Timers
from coordinator.engine.waiters import Waiters
from coordinator.storage.connection import Store
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.keys import Layout
from coordinator.supervision import faults
from tests.support.api import http_api, ws_api
from tests.support.flows import submit, wide
from tests.support.inprocess import http_url, serving, ws_url
from tests.support.server import ValkeyProcess
from tests.support.waiting import until
from tests.support.workers import SOME_RUNNER, follower, worker

RUNNER = {**SOME_RUNNER, "id": 3, "topic": "runner3"}
HANG = 60.0


class Fault:
    """Makes one call of a method raise, the first after `arm`.

    Attributes:
        happened: whether it has.
    """

    def __init__(self, patch: pytest.MonkeyPatch, owner: Any, name: str, *, afterwards: bool) -> None:
        self.happened = False
        self._armed = False
        self._afterwards = afterwards
        patch.setattr(owner, name, self._wrapped(getattr(owner, name)))

    def arm(self) -> None:
        self._armed = True

    def _wrapped(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if not self._armed or self.happened:
                return method(*arguments, **options)
            self.happened = True
            if self._afterwards:
                method(*arguments, **options)
            raise RuntimeError("for a test")

        return wrapper


@pytest.fixture(autouse=True)
def vigilant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coordinators in this process say that they live more often."""
    monkeypatch.setattr(engine_module, "MEMBERSHIP_EVERY", 0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "afterwards"),
    [
        (Waiters, "wake_runner", False),  # the effect that a queue has jobs
        (Waiters, "wake_followers", False),  # that a flow has events
        (Waiters, "wake_all", False),
        (Ticks, "arm", False),  # that a timer is due
        (Ticks, "_tick_if_due", False),  # called by the timers' task
        (Directory, "call_soon", False),
        (Timers, "_call", True),  # the timers' task itself
        (PubSub, "_handle", False),  # that of Pub/Sub, which loses a message
        (PubSub, "_handle", True),
        (Membership, "renew", False),
        (Directory, "_sweep", False),
        (Directory, "_sweep_regularly", False),
    ],
)
async def test_jobs_and_events_arrive_though_something_raises_once(
    store: ValkeyProcess, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, afterwards: bool
) -> None:
    """A runner and a follower at one coordinator, a flow submitted at another; the first attempt is lost and the second
    fails, so that timers are needed as well."""
    fault = Fault(monkeypatch, owner, name, afterwards=afterwards)
    before = faults()
    if name in ("_sweep_regularly", "wake_all"):  # which happen once, at the beginning
        fault.arm()
    with trio.fail_after(HANG):
        async with (
            # It gets nothing after the lost attempt until it is heard of, and here that is its answer to a ping.
            serving(redis_url=store.url, ws_ping_interval=0.5) as here,
            serving(redis_url=store.url) as there,
            ws_api(ws_url(there)) as api,
            worker(ws_url(here), 1, lease=1.0, capacity=2) as runner,
        ):
            await submit(api, 1, wide(1), 1)
            await runner.finish(await runner.job())  # so that everybody is connected and listens
            fault.arm()

            await submit(api, 1, {10: [], 11: [10]}, 2, retries=2)
            async with follower(ws_url(here), 1, 2) as following:
                await runner.job()  # and no sign of life for it
                await runner.fail(await runner.job())
                await runner.finish(await runner.job())
                await runner.finish(await runner.job())
                await following.until(kind="flow", status="Finished")
            await until(lambda: fault.happened)
    assert faults() > before


@asynccontextmanager
async def engine_at(valkey: ValkeyProcess) -> AsyncIterator[Engine]:
    """An engine without front-ends."""
    store = Store(Endpoint.from_url(valkey.url), Layout())
    directory = Directory(store)
    engine = Engine(directory, store, max_subscriptions=10)
    async with trio.open_nursery() as nursery:
        await nursery.start(directory.run)
        await nursery.start(engine.run)
        yield engine
        nursery.cancel_scope.cancel()


async def test_a_take_over_that_crashes_is_begun_again(store: ValkeyProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault(monkeypatch, Ticks, "tick", afterwards=False)
    with trio.fail_after(HANG):
        async with engine_at(store) as engine:
            store.client().sadd("engaged:dead", 1, 2, 3)
            store.client().zadd("coordinators", {"dead": 10**15})  # nobody misses it by itself
            fault.arm()
            engine.gone("dead")
            await until(lambda: not store.client().exists("engaged:dead"))
    assert fault.happened


async def test_what_a_dead_coordinator_owned_is_kept_until_it_could_be_read(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG):
        async with engine_at(store) as engine:
            store.client().set("engaged:dead", "no set")
            engine.gone("dead")
            await trio.sleep(0.5)  # in which it is read, and refused
            assert store.client().get("engaged:dead") == "no set"
            store.client().delete("engaged:dead")
            store.client().sadd("engaged:dead", 1)
            await until(lambda: not store.client().exists("engaged:dead"))


async def test_clients_stay_connected_and_others_get_in_though_the_accept_loop_crashes(
    store: ValkeyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault(monkeypatch, LastingListener, "accept", afterwards=False)
    with trio.fail_after(HANG):
        async with (
            serving(redis_url=store.url) as here,
            ws_api(ws_url(here)) as first,
            http_api(http_url(here)) as http,
        ):
            await first.call("runner.create", context_id=1, runner=RUNNER)
            await http.call("runner.load", context_id=1, id=3)
            fault.arm()
            for _ in range(3):
                async with ws_api(ws_url(here)) as another, http_api(http_url(here)) as another_http:
                    await another.call("runner.load", context_id=1, id=3)
                    await another_http.call("runner.load", context_id=1, id=3)
            await first.call("runner.load", context_id=1, id=3)
    assert fault.happened


@pytest.mark.parametrize("message", [b"other\nbogus:1", b"other\nevents:x", b"other\ncancel:1", b"\xff\n\xff:\xff"])
async def test_an_announcement_that_makes_no_sense_is_reported_and_everybody_looks(
    store: ValkeyProcess, message: bytes
) -> None:
    with trio.fail_after(HANG), structlog.testing.capture_logs() as logs:
        async with serving(redis_url=store.url) as here, worker(ws_url(here), 1) as runner:
            await submit(runner.api, 1, wide(2), 1)
            await runner.finish(await runner.job())
            store.client().publish("herocoordinator:1", message)
            await runner.finish(await runner.job())
            await until(lambda: any(entry["event"] == "an internal fault" for entry in logs))
    reported = [entry for entry in logs if entry["event"] == "an internal fault"]
    assert [(entry["what"], entry["context"], len(entry["incident"])) for entry in reported] == [("an effect", 1, 12)]
