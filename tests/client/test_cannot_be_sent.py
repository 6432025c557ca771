"""What is no JSON, as file names and arguments whose bytes are no UTF-8."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from coordinator.client import CannotBeSent, Client, ClientError, call_once
from coordinator.client.aio import connect as connect_on_asyncio
from tests.support.server import CoordinatorProcess

HALF = "b\udcffd"  # as Python has the byte FF of a command line
CIRCULAR: dict[str, Any] = {}
CIRCULAR["itself"] = CIRCULAR


@pytest.mark.parametrize("params", [{"id": HALF}, CIRCULAR])
async def test_params_that_are_no_json_are_an_error_of_the_client(client: Client, params: Any) -> None:
    with pytest.raises(CannotBeSent, match="the params cannot be sent: "):
        await client.call("actor.load", params)
    with pytest.raises(ClientError):
        await client.call("actor.load", [4711])  # and the connection goes on


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ([1, float("nan")], r"params\[1\] is nan"),
        ({"payload": {"a": [None, float("-inf")]}}, r"params\.payload\.a\[1\] is -inf"),
    ],
)
async def test_a_number_that_json_has_not_is_not_sent_as_null(client: Client, params: Any, said: str) -> None:
    with pytest.raises(CannotBeSent, match=said):
        await client.call("actor.load", params)


async def test_so_is_a_method(server: CoordinatorProcess) -> None:
    with pytest.raises(CannotBeSent, match="surrogates not allowed"):
        await call_once(server.http, HALF)


def test_on_asyncio_too(server: CoordinatorProcess) -> None:
    import asyncio  # noqa: PLC0415 - the other tests are trio's

    async def main() -> None:
        async with connect_on_asyncio(server.ws) as client:
            with pytest.raises(CannotBeSent):
                await client.call("actor.load", {"id": HALF})

    asyncio.run(main())


@pytest.mark.parametrize("arguments", [["call", b"b\xffd"], ["token", "create", b"b\xffd"]])
def test_a_command_says_so_in_one_line(server: CoordinatorProcess, arguments: list[str | bytes]) -> None:
    command = [sys.executable, "-m", "coordinator", *arguments, "--url", server.http]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.startswith("herocoordinator: the ")
    assert done.stderr.count("\n") == 1
