"""What is no JSON, as file names and arguments whose bytes are no UTF-8."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest

from coordinator.client import CannotBeSent, Client, ClientError, call_once
from coordinator.client.aio import connect as connect_on_asyncio
from coordinator.client.ledger import encode
from tests.support.server import CoordinatorProcess

HALF = "b\udcffd"  # as Python has the byte FF of a command line
CIRCULAR: dict[str, Any] = {}
CIRCULAR["itself"] = CIRCULAR


@pytest.mark.parametrize("params", [{"id": HALF}, CIRCULAR, [math.nan], {"at": {"deep": [-math.inf]}}])
async def test_params_that_are_no_json_are_an_error_of_the_client(client: Client, params: Any) -> None:
    with pytest.raises(CannotBeSent, match="the params cannot be sent: "):
        await client.call("actor.load", params)
    with pytest.raises(ClientError):
        await client.call("actor.load", [4711])  # and the connection goes on


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


def test_a_text_may_say_that_it_is_no_number() -> None:
    assert encode(["NaN", {"Infinity": 1.5}]) == b'["NaN",{"Infinity":1.5}]'
