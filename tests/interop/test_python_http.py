"""Clients of Python over HTTP: httpx (HTTP/1.1 and 2), urllib, requests, aiohttp, jsonrpcclient, jsonrpc-async."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import httpx
import jsonrpc_async
import jsonrpc_base
import jsonrpcclient
import pytest
import requests
import trio

from tests.interop.posting import CALL, NOT_FOUND, answered
from tests.support.clients import JSON, PATIENCE, json_text, request
from tests.support.server import CoordinatorProcess
from tests.support.streaming import job, job_ids
from tests.support.workers import SOME_RUNNER

MANY: Final = 50


def load(id: int) -> dict[str, Any]:
    return request("actor.load", {"id": 0}, id)


@pytest.fixture
def http2(server: CoordinatorProcess) -> Iterator[httpx.Client]:
    """HTTP/2 without TLS, by prior knowledge."""
    with httpx.Client(base_url=server.http, http1=False, http2=True, timeout=PATIENCE, trust_env=False) as client:
        yield client


def test_httpx_keeps_its_connection_after_a_get(http: httpx.Client) -> None:
    ports = set()
    for _ in range(5):
        for reply in (http.get("/healthz"), http.post("/", content=CALL, headers=JSON)):
            assert reply.status_code == 200
            ports.add(reply.extensions["network_stream"].get_extra_info("client_addr"))

    assert len(ports) == 1


def test_the_page_for_people_leads_to_what_is_beside_it(http: httpx.Client) -> None:
    """Whatever path a proxy has put it at."""
    page = http.get("/")
    leads = re.findall(r'href="([^"]+)"', page.text)

    assert "openrpc.json" in leads
    assert not [lead for lead in leads if lead.startswith("/")]
    assert {http.get(page.url.join(lead)).status_code for lead in leads} == {200}


def test_httpx_calls_over_http_2(http2: httpx.Client) -> None:
    for _ in range(3):
        reply = http2.post("/", content=CALL, headers=JSON)
        assert reply.http_version == "HTTP/2"
        assert answered(reply.json())


def test_httpx_gets_and_posts_over_http_2(http2: httpx.Client) -> None:
    assert http2.get("/healthz").json() == {"status": "ok"}
    assert answered(http2.post("/", content=CALL, headers=JSON).json())
    assert http2.post("/", json={"jsonrpc": "2.0", "method": "actor.load", "params": {"id": 0}}).status_code == 204


def test_httpx_calls_on_many_streams_of_one_http_2_connection(server: CoordinatorProcess) -> None:
    async def main() -> list[Any]:
        ids: list[Any] = []
        async with httpx.AsyncClient(http1=False, http2=True, timeout=PATIENCE, trust_env=False) as client:

            async def post(id: int) -> None:
                ids.append((await client.post(server.http, json=load(id))).json()["id"])

            async with trio.open_nursery() as nursery:
                for id in range(MANY):
                    nursery.start_soon(post, id)
        return ids

    assert sorted(trio.run(main)) == list(range(MANY))


def test_httpx_reads_a_large_reply_over_http_2(http2: httpx.Client, context: int) -> None:
    script = "x" * 900_000
    created = http2.post("/", json=request("job.create", job(context, 1, script), 1)).json()
    assert "result" in created

    loaded = http2.post("/", json=[request("job.load", job_ids(context, 1), id) for id in range(5)]).json()

    assert [reply["result"]["script"] == script for reply in loaded] == [True] * 5


def test_urllib_calls_with_a_connection_for_each(server: CoordinatorProcess) -> None:
    for _ in range(3):
        with urllib.request.urlopen(urllib.request.Request(server.http, CALL, JSON), timeout=PATIENCE) as reply:
            assert answered(json.load(reply))


def test_http_client_sends_head_and_body_apart(server: CoordinatorProcess) -> None:
    url = urlsplit(server.http)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=PATIENCE)
    for verb, path, body in (("POST", "/", CALL), ("GET", "/healthz", None), ("HEAD", "/healthz", None)) * 2:
        connection.request(verb, path, body, JSON)
        reply = connection.getresponse()
        content = reply.read()
        assert reply.status == 200
        if verb == "POST":
            assert answered(json.loads(content))
    connection.close()


def test_requests_pools_its_connections(server: CoordinatorProcess) -> None:
    with requests.Session() as session:
        for _ in range(3):
            assert session.get(f"{server.http}/healthz", timeout=PATIENCE).json() == {"status": "ok"}
            assert answered(session.post(server.http, json=load(7), timeout=PATIENCE).json())
            assert session.options(server.http, timeout=PATIENCE).status_code < 300


async def test_aiohttp_calls_on_many_connections(server: CoordinatorProcess) -> None:
    async with aiohttp.ClientSession() as session:

        async def post(id: int) -> Any:
            async with session.post(server.http, json=load(id)) as reply:
                return (await reply.json())["id"]

        assert await asyncio.gather(*map(post, range(MANY))) == list(range(MANY))


async def test_aiohttp_waits_for_100_continue(server: CoordinatorProcess) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(3):
            async with session.post(server.http, data=CALL, headers=JSON, expect100=True) as reply:
                assert answered(await reply.json())


async def test_aiohttp_gives_up_a_job_take_and_calls_again(server: CoordinatorProcess, context: int) -> None:
    runner = {"context_id": context, "runner": {**SOME_RUNNER, "id": 3, "topic": "runner3"}}
    async with aiohttp.ClientSession() as session:
        async with session.post(server.http, json=request("runner.create", runner, 1)) as reply:
            assert "result" in await reply.json()
        take = {"context_id": context, "runner_id": 3, "script_types": ["Python"], "wait": 60}
        with pytest.raises(TimeoutError):
            async with session.post(
                server.http, json=request("job.take", take, 1), timeout=aiohttp.ClientTimeout(total=0.3)
            ) as reply:
                await reply.read()

        async with session.post(server.http, data=CALL, headers=JSON) as reply:
            assert answered(await reply.json())


def test_jsonrpcclient_reads_results_and_errors(http: httpx.Client) -> None:
    pages = http.post("/", content=jsonrpcclient.request_json("context.list"), headers=JSON)
    missing = http.post("/", content=jsonrpcclient.request_json("actor.load", {"id": 0}), headers=JSON)

    page, error = (jsonrpcclient.parse(reply.json()) for reply in (pages, missing))
    assert isinstance(page, jsonrpcclient.Ok)
    assert "items" in page.result
    assert isinstance(error, jsonrpcclient.Error)
    assert error.code == NOT_FOUND


def test_jsonrpcclient_sends_a_batch_by_position(http: httpx.Client) -> None:
    calls = [jsonrpcclient.request("actor.load", ({"id": 0},)) for _ in range(3)]

    replies = list(jsonrpcclient.parse(http.post("/", content=json_text(calls), headers=JSON).json()))

    assert [reply.code for reply in replies if isinstance(reply, jsonrpcclient.Error)] == [NOT_FOUND] * 3


async def test_jsonrpc_async_calls_by_attribute(server: CoordinatorProcess, context: int) -> None:
    client = jsonrpc_async.Server(server.http)
    async with client:
        created = await client.job.create(**job(context, 1))
        assert created["id"] == 1
        with pytest.raises(jsonrpc_base.ProtocolError):
            await client.actor.load(id=0)
