"""A refusal reaches a client whose body is still on its way."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Final

import aiohttp
import pytest
import requests

from tests.interop.conftest import Play
from tests.interop.posting import CALL, MAX_BODY, answered
from tests.support.clients import JSON, PATIENCE
from tests.support.server import CoordinatorProcess

INVALID_REQUEST: Final = -32600


@pytest.mark.parametrize("size", [MAX_BODY + 1, 5 * MAX_BODY])
def test_requests_reads_413_although_its_body_is_on_the_way(server: CoordinatorProcess, size: int) -> None:
    with requests.Session() as session:
        refused = session.post(server.http, data=CALL + b" " * (size - len(CALL)), headers=JSON, timeout=PATIENCE)
        after = session.post(server.http, data=CALL, headers=JSON, timeout=PATIENCE)

    assert refused.status_code == 413
    assert answered(after.json())


@pytest.mark.parametrize("size", [MAX_BODY + 1, 5 * MAX_BODY])
def test_urllib_reads_413_although_its_body_is_on_the_way(server: CoordinatorProcess, size: int) -> None:
    asked = urllib.request.Request(server.http, CALL + b" " * (size - len(CALL)), JSON)

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=PATIENCE)

    assert refused.value.code == 413
    refused.value.close()


async def test_aiohttp_reads_413_although_its_body_is_on_the_way(server: CoordinatorProcess) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(server.http, data=b" " * (5 * MAX_BODY), headers=JSON) as refused:
            assert refused.status == 413


def test_fetch_of_node_reads_413_although_its_body_is_on_the_way(node: Play) -> None:
    seen = node("fetch", "readsTheStatusOfABodyThatIsTooLarge", bytes=5 * MAX_BODY)

    assert seen == {"status": 413, "error": INVALID_REQUEST, "next": 1}
