"""Bodies that come in chunks, from clients that do not know their length beforehand."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import AsyncIterator, Iterator

import aiohttp
import httpx
import requests

from tests.interop.posting import CALL, answered
from tests.support.clients import JSON, PATIENCE
from tests.support.server import CoordinatorProcess


def pieces(body: bytes, size: int = 9) -> Iterator[bytes]:
    yield from (body[at : at + size] for at in range(0, len(body), size))


async def pieces_in_time(body: bytes) -> AsyncIterator[bytes]:
    for piece in pieces(body):
        yield piece


def test_httpx_streams_a_chunked_body(http: httpx.Client) -> None:
    assert answered(http.post("/", content=pieces(CALL), headers=JSON).json())


def test_requests_streams_a_chunked_body(server: CoordinatorProcess) -> None:
    with requests.Session() as session:
        for _ in range(3):
            reply = session.post(server.http, data=pieces(CALL), headers=JSON, timeout=PATIENCE)
            assert answered(reply.json())


async def test_aiohttp_streams_a_chunked_body(server: CoordinatorProcess) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(server.http, data=pieces_in_time(CALL), headers=JSON) as reply:
            assert answered(await reply.json())


def test_urllib_streams_a_chunked_body(server: CoordinatorProcess) -> None:
    asked = urllib.request.Request(server.http, pieces(CALL), {**JSON, "transfer-encoding": "chunked"})

    with urllib.request.urlopen(asked, timeout=PATIENCE) as reply:
        assert answered(json.load(reply))
