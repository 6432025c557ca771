"""A write is applied once, and a connection that was given up writes no more: what comes late, or is sent again, never
undoes what others were told is done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, NamedTuple

import pytest
import trio

from coordinator.storage.keys import Isolation
from tests.support.api import Api, ws_api
from tests.support.flows import fields_of_job, submit, wide
from tests.support.inprocess import serving, ws_url
from tests.support.proxy import Proxy, Side, proxied
from tests.support.server import ValkeyProcess
from tests.support.waiting import until
from tests.support.workers import outcome_of, register

HANG: Final = 60.0
SILENCE: Final = 0.5  # seconds after which a coordinator gives up a connection

both_layouts = pytest.mark.parametrize("isolation", ["index", "prefix"])


class Pair(NamedTuple):
    """Clients of two coordinators: the way from one of them to the store leads through the proxy."""

    proxy: Proxy
    here: Api
    here_url: str
    there: Api


@asynccontextmanager
async def pair(store: ValkeyProcess, isolation: Isolation = "index", user: str = "") -> AsyncIterator[Pair]:
    with trio.fail_after(HANG):
        async with proxied(store.port) as proxy:
            patient: dict[str, Any] = {"isolation": isolation, "request_timeout": 30.0}
            url = proxy.url.replace("://", f"://{user}")
            async with (
                serving(redis_url=url, store_timeout=SILENCE, **patient) as near,
                serving(redis_url=store.url, store_timeout=20.0, **patient) as far,
                ws_api(ws_url(near)) as here,
                ws_api(ws_url(far)) as there,
            ):
                yield Pair(proxy, here, ws_url(near), there)


def a_job(script: str, id: int = 1) -> dict[str, Any]:
    return {"context_id": 3, "job": {**fields_of_job(3, id), "script": script}}


JOB: Final = {"context_id": 3, "caller_id": 7, "id": 1}


async def script_of(api: Api, id: int = 1) -> Any:
    return (await api.call("job.load", **{**JOB, "id": id}))["script"]


@asynccontextmanager
async def unanswered(to: Pair, method: str, **params: Any) -> AsyncIterator[Callable[[], Any]]:
    """A call that is applied while its reply stays on its way; the connection breaks when the block ends. What is
    yielded returns its result after that."""
    results: list[Any] = []

    async def call() -> None:
        results.append(await to.here.call(method, **params))

    async with trio.open_nursery() as nursery:
        to.proxy.stall(Side.TO_CLIENT)
        nursery.start_soon(call)
        yield lambda: results[0]
        assert not results
        to.proxy.cut()
        await to.proxy.pass_all()


# -- a reply that was lost


@both_layouts
async def test_a_write_sent_again_does_not_undo_a_later_one_of_another(
    store: ValkeyProcess, isolation: Isolation
) -> None:
    async with pair(store, isolation) as to:
        await to.here.call("job.create", **a_job("1"))
        async with unanswered(to, "job.create", **a_job("2")) as result:
            while await script_of(to.there) != "2":
                await trio.sleep(0.01)
            await to.there.call("job.create", **a_job("3"))
        assert result()["script"] == "2"
        assert await script_of(to.here) == await script_of(to.there) == "3"


async def test_an_actor_is_as_safe_as_what_is_in_a_context(store: ValkeyProcess) -> None:
    def actor(address: str) -> dict[str, Any]:
        return {"actor": {"id": 5, "pubkey": "", "address": [address]}}

    async def address(api: Api) -> Any:
        return (await api.call("actor.load", id=5))["address"]

    async with pair(store) as to:
        await to.here.call("actor.create", **actor("10.0.0.1"))
        async with unanswered(to, "actor.create", **actor("10.0.0.2")) as result:
            while await address(to.there) != ["10.0.0.2"]:
                await trio.sleep(0.01)
            await to.there.call("actor.create", **actor("10.0.0.3"))
        assert result()["address"] == ["10.0.0.2"]
        assert await address(to.there) == ["10.0.0.3"]


async def test_a_deletion_sent_again_does_not_delete_what_was_created_since(store: ValkeyProcess) -> None:
    async with pair(store) as to:
        await to.here.call("job.create", **a_job("1"))
        async with unanswered(to, "job.delete", **JOB) as result:
            while store.client(3).exists("job:7:1"):
                await trio.sleep(0.01)
            await to.there.call("job.create", **a_job("2"))
        assert result() == {"deleted": 1}
        assert await script_of(to.there) == "2"


async def test_a_creation_sent_again_does_not_bring_back_what_was_deleted_since(store: ValkeyProcess) -> None:
    async with pair(store) as to:
        await to.here.call("job.create", **a_job("1", 2))
        async with unanswered(to, "job.create", **a_job("1")) as result:
            while not store.client(3).exists("job:7:1"):
                await trio.sleep(0.01)
            assert await to.there.call("job.delete", **JOB) == {"deleted": 1}
        assert result()["script"] == "1"
        assert (await to.there.refused("job.load", **JOB)).code == -32001


async def test_a_cancel_sent_again_does_not_stop_a_flow_that_was_retried_since(store: ValkeyProcess) -> None:
    async with pair(store) as to:
        await submit(to.here, 3, wide(2))
        async with unanswered(to, "flow.cancel", context_id=3, id=1, reason="enough") as result:
            while (await to.there.call("flow.load", context_id=3, id=1))["status"] != "Error":
                await trio.sleep(0.01)
            await to.there.call("flow.retry", context_id=3, id=1)
        assert result()["status"] == "Error"
        assert (await to.there.call("flow.load", context_id=3, id=1))["status"] == "Started"


async def test_lines_of_a_log_are_not_there_twice(store: ValkeyProcess) -> None:
    async with pair(store) as to:
        await register(to.here, 3)
        await submit(to.here, 3, wide(1))
        (attempt,) = (await to.here.call("job.take", context_id=3, runner_id=3, script_types=["Python"]))["jobs"]

        async def logged(api: Api) -> list[Any]:
            events = (await api.call("flow.events", context_id=3, id=1))["events"]
            return [event["lines"] for event in events if event["kind"] == "log"]

        log = {"stream": "stdout", "lines": ["once"]}
        async with unanswered(to, "job.log", **outcome_of(attempt, **log)) as result:
            while not await logged(to.there):
                await trio.sleep(0.01)
        assert result() == {"lines": 1}
        assert await logged(to.there) == [["once"]]


async def test_an_accepted_result_is_accepted_though_the_job_runs_again_by_then(store: ValkeyProcess) -> None:
    async with pair(store) as to:
        await register(to.here, 3)
        await submit(to.here, 3, wide(2))
        taken = await to.here.call("job.take", context_id=3, runner_id=3, script_types=["Python"], count=2)
        first, _ = taken["jobs"]
        async with unanswered(to, "job.fail", **outcome_of(first, error="once", retry=False)) as result:
            while (await to.there.call("flow.load", context_id=3, id=1))["status"] != "Error":
                await trio.sleep(0.01)
            await to.there.call("flow.cancel", context_id=3, id=1)
            await to.there.call("flow.retry", context_id=3, id=1)
            again = await to.there.call("job.take", context_id=3, runner_id=3, script_types=["Python"], count=2)
        assert result() == {"status": "Error", "attempt": 1}
        for attempt in again["jobs"]:
            answer = await to.there.call("job.finish", **outcome_of(attempt, result={}))
            assert answer["status"] == "Finished"


@pytest.mark.parametrize("count", [2, 40, 400])
async def test_calls_that_travelled_together_are_each_answered_once(store: ValkeyProcess, count: int) -> None:
    async with pair(store) as to:
        await to.here.call("job.create", **a_job("0", 1000))
        results: dict[int, str] = {}

        async def create(id: int) -> None:
            results[id] = (await to.here.call("job.create", **a_job("2", id)))["script"]

        to.proxy.stall(Side.TO_CLIENT)
        async with trio.open_nursery() as nursery:
            for id in range(1, count + 1):
                nursery.start_soon(create, id)
            jobs = store.client(3)
            await until(lambda: jobs.zcard("index:job") > 1)
            entries: Any = jobs.zrange("index:job", 0, -1)
            applied = [int(entry.rpartition(":")[2]) for entry in entries]
            for id in applied:
                await to.there.call("job.create", **a_job("3", id))
            to.proxy.cut()
            await to.proxy.pass_all()
        assert results == dict.fromkeys(range(1, count + 1), "2")
        for id in range(1, count + 1):
            assert await script_of(to.there, id) == ("3" if id in applied else "2")


async def test_a_store_that_has_lost_everything_is_written_to_again(store: ValkeyProcess) -> None:
    async with pair(store) as to:
        await to.here.call("job.create", **a_job("1"))
        store.client().flushall()

        assert (await to.here.call("job.create", **a_job("2")))["script"] == "2"

        assert await script_of(to.there) == "2"


async def test_what_is_too_large_to_keep_is_said_to_be_applied(store: ValkeyProcess) -> None:
    async with pair(store) as to:
        flow = {"id": 1, "caller_id": 7, "context_id": 3, "jobs": [1], "env_vars": {"LARGE": "x" * 100_000}}
        await to.here.call("job.create", **a_job("1"))
        await to.here.call("flow.create", context_id=3, flow=flow)
        await to.here.call("flow.start", context_id=3, id=1)
        refusals: list[Any] = []

        async def cancel() -> None:
            refusals.append(await to.here.refused("flow.cancel", context_id=3, id=1))

        async with trio.open_nursery() as nursery:
            to.proxy.stall(Side.TO_CLIENT)
            nursery.start_soon(cancel)
            while (await to.there.call("flow.load", context_id=3, id=1))["status"] != "Error":
                await trio.sleep(0.01)
            await to.there.call("flow.retry", context_id=3, id=1)
            to.proxy.cut()
            await to.proxy.pass_all()
        (refusal,) = refusals
        assert refusal.code == -32010
        assert refusal.data["may_have_been_applied"] is True
        assert "the write was applied" in refusal.data["detail"]
        assert (await to.there.call("flow.load", context_id=3, id=1))["status"] == "Started"


async def test_a_coordinator_that_stops_leaves_nothing_of_this_in_the_store(store: ValkeyProcess) -> None:
    async with pair(store) as to:
        await to.here.call("job.create", **a_job("1"))
        assert store.client(3).keys("writer:*")
    await until(lambda: not store.client(3).keys("writer:*"))


# -- packets that come late


@pytest.fixture(params=["", "limited:secret@"], ids=["closed by the store", "only refused"])
def user(request: pytest.FixtureRequest, store: ValkeyProcess) -> str:
    """Who a coordinator is for the store: one who may not have connections closed has only the epochs."""
    rights = ["+@all", "-client|kill", "-client|list"]
    store.client().acl_setuser(
        "limited", enabled=True, reset=True, passwords=["+secret"], keys=["*"], channels=["*"], commands=rights
    )
    name: str = request.param
    return name


async def test_a_late_write_does_not_undo_what_was_acknowledged_since(store: ValkeyProcess, user: str) -> None:
    async with pair(store, user=user) as to:
        await to.here.call("job.create", **a_job("1"))
        to.proxy.hold_back()
        assert (await to.here.call("job.create", **a_job("2")))["script"] == "2"
        assert (await to.here.call("job.create", **a_job("3")))["script"] == "3"

        await deliver(to.proxy)

        assert await script_of(to.there) == "3"


async def test_a_late_write_that_nobody_waits_for_is_not_applied(store: ValkeyProcess, user: str) -> None:
    """Its caller was told that it may have been applied; by the time the next is answered, that is settled."""
    async with pair(store, user=user) as to:
        await to.here.call("job.create", **a_job("1"))
        to.proxy.hold_back()
        async with ws_api(to.here_url) as leaving, trio.open_nursery() as nursery:
            nursery.start_soon(partial(leaving.call, "job.create", **a_job("2")))
            await to.proxy.until_kept(1)
            nursery.cancel_scope.cancel()
        accepted = to.proxy.accepted
        await to.proxy.until_accepted(accepted + 1)
        await to.here.call("job.create", **a_job("3"))

        await deliver(to.proxy)

        assert await script_of(to.there) == "3"


async def test_a_late_take_starts_no_job_for_a_runner_that_is_gone(store: ValkeyProcess, user: str) -> None:
    async with pair(store, user=user) as to:
        await register(to.here, 3)
        take = {"context_id": 3, "runner_id": 3, "script_types": ["Python"]}
        async with trio.open_nursery() as leaving:

            async def wait_for_a_job() -> None:
                async with ws_api(to.here_url) as client:
                    await client.call("job.take", **take, wait=30)

            leaving.start_soon(wait_for_a_job)
            await until(lambda: "herocoordinator:3" in store.client().pubsub_channels())
            await trio.sleep(0.1)  # nothing tells that the call has looked once more since, and waits
            clients: Any = store.client().client_list()
            addresses: list[str] = [client["addr"] for client in clients if client["db"] == "3"]
            to.proxy.hold_back([int(address.rpartition(":")[2]) for address in addresses])
            await submit(to.there, 3, wide(1))
            await to.proxy.until_kept(1)
            leaving.cancel_scope.cancel()
        assert (await to.here.call("job.load", **JOB))["status"] == "Dispatched"

        await deliver(to.proxy)

        assert (await to.there.call("job.load", **JOB))["status"] == "Dispatched"
        (attempt,) = (await to.there.call("job.take", **take))["jobs"]
        assert attempt["attempt"] == 1


async def test_the_store_closes_a_connection_that_was_given_up(store: ValkeyProcess) -> None:
    async with pair(store) as to:
        await to.here.call("job.create", **a_job("1"))

        def ids() -> set[str]:
            clients: Any = store.client().client_list()
            return {client["id"] for client in clients if client["db"] == "3"}

        before = ids()
        to.proxy.hold_back()
        await to.here.call("job.create", **a_job("2"))
        assert len(before) == 1
        assert not before & ids()


async def deliver(proxy: Proxy) -> None:
    """Bring the store what was held back, and wait until it has read that."""
    proxy.deliver()
    await until(lambda: not proxy.held)
