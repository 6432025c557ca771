"""The first notification of a subscription never precedes the reply that names it, whatever that reply waits for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from tests.support.api import Api
from tests.support.flows import submit, wide
from tests.support.frames import TEXT, FrameClient, frame
from tests.support.looking import until_metric
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.workers import outcome_of, register, worker

HANG = 40.0
RUNNER = 3
ELSEWHERE = 1_000_000  # from a context to another one nobody uses


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    """One whose subscriptions are counted, so nobody else subscribes there."""
    with coordinator("--data-dir", str(tmp_path_factory.mktemp("data"))) as running:
        yield running


def request(id: int | None, method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", **({} if id is None else {"id": id}), "method": method, "params": params}


def subscribing(id: int | None, context: int, **more: Any) -> dict[str, Any]:
    params = {"context_id": context, "runner_id": RUNNER, "script_types": ["Python"], "capacity": 8, **more}
    return request(id, "runner.subscribe", params)


def following(id: int, context: int) -> dict[str, Any]:
    return request(id, "flow.subscribe", {"context_id": context, "id": 1})


class Listener:
    """A raw client that keeps everything in the order it comes."""

    def __init__(self, url: str) -> None:
        self._client = FrameClient(url)

    def send(self, *messages: Any) -> None:
        self._client.send(b"".join(frame(TEXT, json.dumps(message).encode()) for message in messages))

    def next(self) -> Any:
        got = self._client.next()
        assert got is not None
        assert got.opcode == TEXT
        return json.loads(got.payload)

    def close(self) -> None:
        self._client.close()


def replies_in(message: Any) -> list[dict[str, Any]]:
    return [item for item in (message if isinstance(message, list) else [message]) if "method" not in item]


def check_order(listener: Listener, notifications: int) -> list[str]:
    """Read so many notifications; each must be of a subscription named by a reply before. The methods, in order."""
    named: set[str] = set()
    methods: list[str] = []
    while len(methods) < notifications:
        message = listener.next()
        if isinstance(message, dict) and "method" in message:
            assert message["params"]["subscription"] in named, f"{message} precedes the reply that names it"
            methods.append(message["method"])
        else:
            named |= {
                reply["result"]["subscription"] for reply in replies_in(message) if "subscription" in reply["result"]
            }
    return methods


@pytest.mark.parametrize("length", [2, 20, 500])
async def test_in_a_batch_of_any_length(server: CoordinatorProcess, ws: Api, context: int, length: int) -> None:
    """Both kinds in one batch, first, whose other calls go to another context and take longer."""
    await submit(ws, context, wide(8))
    await register(ws, context, RUNNER)
    loads = [request(10 + n, "context.list", {}) for n in range(length - 2)]
    listener = Listener(server.ws)
    try:
        await trio.to_thread.run_sync(listener.send, [subscribing(1, context), following(2, context), *loads])
        methods = await trio.to_thread.run_sync(check_order, listener, 16)
        assert {*methods} == {"runner.job", "flow.event"}
    finally:
        listener.close()


async def test_though_a_call_of_the_same_batch_waits_for_long(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    """The batch waits for a job in another context; the subscription waits with it, and the job there is for it too."""
    other = context + ELSEWHERE
    await submit(ws, context, wide(3))
    for id in (context, other):
        await register(ws, id, RUNNER)
    take = {"context_id": other, "runner_id": RUNNER, "script_types": ["Python"], "wait": 60.0}
    listener = Listener(server.ws)
    try:
        await trio.to_thread.run_sync(listener.send, [subscribing(1, context), request(2, "job.take", take)])
        await until_metric(server.http, 1)
        status = await ws.call("flow.status", context_id=context, id=1)
        assert status["counts"]["Started"] == 0  # nothing was handed out to a runner that could not know of it

        await submit(ws, other, wide(1))
        assert await trio.to_thread.run_sync(check_order, listener, 3) == ["runner.job"] * 3
    finally:
        listener.close()


async def test_over_any_number_of_calls_in_flight(server: CoordinatorProcess, ws: Api, context: int) -> None:
    await submit(ws, context, wide(8))
    await register(ws, context, RUNNER)
    listener = Listener(server.ws)
    try:
        loads = [request(10 + n, "flow.load", {"context_id": context, "id": 1}) for n in range(400)]
        await trio.to_thread.run_sync(listener.send, *[*loads, subscribing(1, context), following(2, context), *loads])
        assert await trio.to_thread.run_sync(check_order, listener, 16)
    finally:
        listener.close()


async def test_a_cancel_of_what_was_held_waits_for_the_reply_too(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    other = context + ELSEWHERE
    await register(ws, other, RUNNER)
    take = {"context_id": other, "runner_id": RUNNER, "script_types": ["Python"], "wait": 60.0}
    with trio.fail_after(HANG):
        async with worker(server.ws, context, session="s") as runner:
            await submit(ws, context, wide(1))
            held = outcome_of(await runner.job())
        listener = Listener(server.ws)
        try:
            again = subscribing(1, context, session="s", holding=[held["token"]])
            await trio.to_thread.run_sync(listener.send, [again, request(2, "job.take", take)])
            await until_metric(server.http, 1)
            await ws.call("flow.cancel", context_id=context, id=1)
            await submit(ws, other, wide(1))

            assert await trio.to_thread.run_sync(check_order, listener, 1) == ["runner.cancel"]
        finally:
            listener.close()


async def test_a_client_that_leaves_before_its_reply_leaves_no_subscription(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    """Nor does one keep what another runner could have."""
    other = context + ELSEWHERE
    for id in (context, other):
        await register(ws, id, RUNNER)
    take = {"context_id": other, "runner_id": RUNNER, "script_types": ["Python"], "wait": 60.0}
    with trio.fail_after(HANG):
        listener = Listener(server.ws)
        await trio.to_thread.run_sync(listener.send, [subscribing(1, context), request(2, "job.take", take)])
        await until_metric(server.http, 1)
        listener.close()
        await until_metric(server.http, 0)

        await submit(ws, context, wide(2))
        async with worker(server.ws, context, 4, capacity=2) as runner:
            await runner.jobs(2)


async def test_one_made_by_a_notification_begins_though_nothing_names_it(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    await submit(ws, context, wide(2))
    await register(ws, context, RUNNER)
    listener = Listener(server.ws)
    try:
        await trio.to_thread.run_sync(listener.send, [subscribing(None, context), following(2, context)])
        seen = [await trio.to_thread.run_sync(listener.next) for _ in range(3)]
        assert "runner.job" in {message.get("method") for message in seen if isinstance(message, dict)}
    finally:
        listener.close()
