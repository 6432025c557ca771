"""Calls that wait for a job take no place that others need."""

from __future__ import annotations

from typing import Any, Final

import httpx
import pytest
import trio

from tests.flows.test_take import HANG, OVERLOADED, until_parked
from tests.support.api import ws_api
from tests.support.flows import submit, wide
from tests.support.inprocess import http_url, serving, ws_url
from tests.support.server import ValkeyProcess
from tests.support.waiting import until
from tests.support.workers import register

PLACES: Final = 256
CALLS: Final = 300


def take(id: int, runner: int = 3) -> dict[str, Any]:
    params = {"context_id": 1, "wait": 60, "runner_id": runner, "script_types": ["Osis"]}
    return {"jsonrpc": "2.0", "id": id, "method": "job.take", "params": params}


@pytest.mark.parametrize("over", ["http", "websocket"])
async def test_a_flood_of_waiting_calls_leaves_places_for_others(store: ValkeyProcess, over: str) -> None:
    with trio.fail_after(HANG):
        async with serving(redis_url=store.url, max_subscriptions=PLACES) as app, ws_api(ws_url(app)) as ws:
            await register(ws, 1)
            await register(ws, 2)
            batch = [take(id) for id in range(CALLS)]
            refused: list[Any] = []

            async def flood_http() -> None:
                async with httpx.AsyncClient(verify=False) as http:
                    await http.post(http_url(app), json=batch, timeout=60)

            async def one(api: Any) -> None:
                try:
                    await api.call("job.take", **take(0)["params"])
                except Exception as error:
                    refused.append(getattr(error, "code", error))

            async def flood_websocket() -> None:
                async with ws_api(ws_url(app)) as api, trio.open_nursery() as calls:
                    for _ in range(CALLS):
                        calls.start_soon(one, api)

            async with trio.open_nursery() as flood:
                flood.start_soon(flood_http if over == "http" else flood_websocket)
                await until_parked(http_url(app), calls=CALLS + 2)
                if over == "websocket":
                    await until(lambda: len(refused) == CALLS - PLACES // 8)
                    assert {*refused} == {OVERLOADED}

                answers: list[Any] = []

                async def wait() -> None:
                    params = {"context_id": 2, "wait": 60, "runner_id": 3, "script_types": ["Python"]}
                    answers.append(await ws.call("job.take", **params))

                async with trio.open_nursery() as others:
                    others.start_soon(wait)
                    await until_parked(http_url(app), calls=CALLS + 3)
                    await submit(ws, 2, wide(1))
                assert [taken["job"]["id"] for taken in answers[0]["jobs"]] == [1]
                flood.cancel_scope.cancel()


async def test_one_runner_cannot_wait_everywhere_at_once(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG):
        async with serving(redis_url=store.url, max_subscriptions=PLACES) as app, ws_api(ws_url(app)) as ws:
            await register(ws, 1)
            share = PLACES // 8
            refused: list[Any] = []

            async def wait(client: httpx.AsyncClient, id: int) -> None:
                answer = await client.post(http_url(app), json=take(id), timeout=60)
                refused.append(answer.json()["error"])

            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(limits=limits, verify=False) as client, trio.open_nursery() as nursery:
                for id in range(share + 1):
                    nursery.start_soon(wait, client, id)
                await until(lambda: bool(refused))
                nursery.cancel_scope.cancel()

            assert [error["code"] for error in refused] == [OVERLOADED]
            assert "runner 3" in refused[0]["data"]["detail"]
