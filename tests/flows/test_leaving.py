"""A client leaves while it waits for a job, or in the very moment in which it is given one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import pytest
import trio

from coordinator.actors.request import Operation
from coordinator.budget import Budget
from coordinator.engine.engine import Engine
from coordinator.engine.sessions import Session
from coordinator.engine.supplying import RunnerSubscription
from coordinator.models.attempts import JobTakeParams
from coordinator.models.flows import FlowSubmitParams
from coordinator.operations.flows import submit_flow
from coordinator.storage.connection import Connection, Store
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.keys import Layout
from tests.support.actors import running
from tests.support.api import ws_api
from tests.support.flows import remains, submission, submit, wide
from tests.support.inprocess import http_url, serving, ws_url
from tests.support.looking import until_metric
from tests.support.server import ValkeyProcess
from tests.support.streaming import RawClient, call_frame
from tests.support.waiting import until
from tests.support.workers import register

LEASE: Final = 3600.0
KEYS: Final = Layout().keyspace(1)


class Silence(Session):
    """A connection on which nothing may be said."""

    is_congested = False

    def notify(self, notifications: Sequence[bytes], *, in_batches: bool, is_last: bool = False) -> None:
        raise AssertionError(notifications)


async def answers(connection: Connection, step: Any) -> list[Any]:
    """The replies to a step of an operation."""
    replies: list[Any] = []
    await connection.exchange(step, replies)
    return replies


async def finish(connection: Connection, operation: Operation) -> None:
    """Run an operation to its end."""
    step = next(operation)
    while True:
        try:
            step = operation.send(await answers(connection, step))
        except StopIteration:
            return


@pytest.fixture
async def connection(store: ValkeyProcess) -> AsyncIterator[Connection]:
    """To the database of context 1, in which one job is queued and runner 3 is known."""
    opened = await Store(Endpoint.from_url(store.url), Layout()).open(1)
    store.client(1).hset("runner:3", "topic", "runner3")
    await finish(opened, submit_flow(KEYS, FlowSubmitParams.model_validate(submission(1, wide(1)))))
    yield opened
    await opened.aclose()


async def test_what_was_taken_for_a_call_nobody_waits_for_any_more_goes_back(
    store: ValkeyProcess, connection: Connection
) -> None:
    real = Store(Endpoint.from_url(store.url), Layout())
    with trio.fail_after(30):
        async with running(real) as directory, trio.open_nursery() as nursery:
            engine = Engine(directory, real, max_subscriptions=10)
            await nursery.start(engine.run)
            params = JobTakeParams(context_id=1, runner_id=3, script_types=["Python"], lease=LEASE)
            call = engine.takes.take_job(Budget(1 << 20), KEYS, params)
            taking = call.send(await answers(connection, next(call)))
            await answers(connection, taking)
            assert remains(store.client(1))["running"] == ["job:7:1"]

            call.close()

            await until(lambda: remains(store.client(1)) == {"queued": ["job:7:1"]})
            assert store.client(1).hget("job:7:1", "x_attempt") == "0"
            nursery.cancel_scope.cancel()


async def test_what_was_taken_for_a_runner_that_left_goes_back(store: ValkeyProcess, connection: Connection) -> None:
    subscription = RunnerSubscription(
        Silence(Budget(1 << 20)),
        KEYS,
        runner_id=3,
        topic="runner3",
        runner_session="",
        script_types=["Python"],
        capacity=1,
        since=1,
        lease=LEASE,
        in_batches=False,
        took=lambda runner, effects, is_empty: None,
    )
    serving = subscription.serve()
    taken = await answers(connection, next(serving))
    assert remains(store.client(1))["running"] == ["job:7:1"]
    subscription.close()

    giving_back = serving.send(taken)
    with pytest.raises(StopIteration):
        serving.send(await answers(connection, giving_back))

    assert remains(store.client(1)) == {"queued": ["job:7:1"]}
    assert store.client(1).hget("job:7:1", "x_attempt") == "0"


@pytest.mark.parametrize("resets", [False, True])
async def test_a_waiting_call_of_a_client_gone_behind_what_we_do_not_read_gets_no_job(
    store: ValkeyProcess, resets: bool
) -> None:
    """It is at its bound with one call, so nothing behind that is read, neither its bytes nor its end."""
    with trio.fail_after(60):
        async with serving(redis_url=store.url, max_in_flight=1) as app, ws_api(ws_url(app)) as api:
            await register(api, 1)
            client = await trio.to_thread.run_sync(RawClient, ws_url(app))
            await trio.to_thread.run_sync(client.upgrade)
            params = {"context_id": 1, "runner_id": 3, "script_types": ["Python"], "wait": 60.0}
            client.send_call(1, "job.take", params)
            await trio.to_thread.run_sync(client.socket.sendall, call_frame(2, "actor.load", {"id": 1}) * 3_000)
            await until_metric(http_url(app), 2, "websocket_connections")
            if resets:
                client.vanish()
            else:
                client.close()
            await until_metric(http_url(app), 1, "websocket_connections")

            await submit(api, 1, wide(1))

            status = await api.call("flow.status", context_id=1, id=1)
            assert status["counts"]["Dispatched"] == 1
