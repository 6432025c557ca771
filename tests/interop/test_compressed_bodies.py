"""Compressed bodies: decoded within the limit of a body, or refused in the way HTTP has for it."""

from __future__ import annotations

import gzip
import zlib
from typing import Any, Final

import aiohttp
import httpx
import pytest
import requests

from tests.interop.conftest import Play
from tests.interop.posting import CALL, MAX_BODY, answered
from tests.support.clients import JSON, PATIENCE
from tests.support.server import CoordinatorProcess

INVALID_REQUEST: Final = -32600


def check_compressed(status: int, accepts: str | None, body: Any) -> None:
    if status == 415:
        assert accepts is not None
        assert body["error"]["code"] == INVALID_REQUEST
    else:
        assert status == 200
        assert answered(body)


def test_httpx_sends_gzip(http: httpx.Client) -> None:
    reply = http.post("/", content=gzip.compress(CALL), headers={**JSON, "content-encoding": "gzip"})

    check_compressed(reply.status_code, reply.headers.get("accept-encoding"), reply.json())


def test_requests_sends_deflate(server: CoordinatorProcess) -> None:
    headers = {**JSON, "content-encoding": "deflate"}
    reply = requests.post(server.http, data=zlib.compress(CALL), headers=headers, timeout=PATIENCE)

    check_compressed(reply.status_code, reply.headers.get("accept-encoding"), reply.json())


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_aiohttp_compresses_its_body(server: CoordinatorProcess, encoding: str) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(server.http, data=CALL, headers=JSON, compress=encoding) as reply:
            check_compressed(reply.status, reply.headers.get("accept-encoding"), await reply.json())


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_fetch_of_node_compresses_its_body(node: Play, encoding: str) -> None:
    seen = node("fetch", "compressesItsBody", encoding=encoding)

    check_compressed(seen["status"], seen["accepts"], seen["body"])


def test_an_encoding_nobody_here_knows_is_refused_with_those_known(http: httpx.Client) -> None:
    reply = http.post("/", content=CALL, headers={**JSON, "content-encoding": "br"})

    assert reply.status_code == 415
    assert "br" not in reply.headers["accept-encoding"].split(", ")


def test_a_small_body_that_grows_beyond_the_limit_is_refused(http: httpx.Client) -> None:
    bomb = gzip.compress(CALL + b" " * (64 * MAX_BODY))
    assert len(bomb) < MAX_BODY

    reply = http.post("/", content=bomb, headers={**JSON, "content-encoding": "gzip"})

    assert reply.status_code in (413, 415)
    assert answered(http.post("/", content=CALL, headers=JSON).json())
