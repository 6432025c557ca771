"""`herocoordinator openrpc` and `herocoordinator call`: the contract, and one call of it from a shell."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Any

import click
import trio
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket_url

from coordinator.cli.exit_codes import EXIT_ERROR, EXIT_NO_CONNECTION, URL_VARIABLE, fail
from coordinator.rpc.openrpc import document

__all__ = ["call", "openrpc"]

DEFAULT_URL = "http://127.0.0.1:9652"
CALL_TIMEOUT = 60.0


@click.command()
def openrpc() -> None:
    """Print the OpenRPC document of the API."""
    click.echo(json.dumps(document(), indent=2))


@click.command()
@click.argument("method")
@click.argument("params", required=False, metavar="[JSON]")
@click.option(
    "--url",
    default=DEFAULT_URL,
    show_default=True,
    envvar=URL_VARIABLE,
    show_envvar=True,
    help="http://… or ws://… of the coordinator.",
)
@click.option("--timeout", default=CALL_TIMEOUT, show_default=True, help="Seconds to wait for the reply.")
def call(method: str, params: str | None, url: str, timeout: float) -> None:
    """Call METHOD with params given as JSON (- reads them from standard input) and print its result.

    Exit status: 0 a result, 1 an error reply, 2 a wrong command line, 3 no reply at all.

    \b
    herocoordinator call actor.create '{"actor": {"id": 7, "pubkey": "k", "address": ["::1"]}}'
    herocoordinator call --url ws://127.0.0.1:9653 actor.load '{"id": 7}'
    """
    request: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method}
    if params is not None:
        try:
            given = sys.stdin.read() if params == "-" else params
            request["params"] = json.loads(given.removeprefix("\ufeff"))
        except ValueError as error:
            raise click.BadParameter(f"not JSON: {error}", param_hint="JSON") from error
    body = json.dumps(request).encode()
    if url.startswith(("ws://", "wss://")):
        reply = _call_websocket(url, body, timeout)
    elif url.startswith(("http://", "https://")):
        reply = _call_http(url, body, timeout)
    else:
        raise click.BadParameter("begins with http://, https://, ws:// or wss://", param_hint="--url")
    try:
        response = json.loads(reply)
    except ValueError:
        fail(f"{url} did not answer in JSON: {reply[:200]!r}", EXIT_NO_CONNECTION)
    if isinstance(response, dict) and "result" in response:
        click.echo(json.dumps(response["result"], indent=2, ensure_ascii=False))
        return
    _print_error(response.get("error") if isinstance(response, dict) else response)
    sys.exit(EXIT_ERROR)


def _print_error(error: Any) -> None:
    if not isinstance(error, dict) or "code" not in error:
        click.echo(f"unexpected reply: {json.dumps(error)}", err=True)
        return
    click.echo(f"error {error['code']}: {error.get('message', '')}", err=True)
    data = error.get("data")
    if isinstance(data, list):
        for fault in data:
            place = ".".join(map(str, fault.get("loc", []))) or "params"
            click.echo(f"  {place}: {fault.get('msg')}", err=True)
    elif isinstance(data, dict):
        for name, value in data.items():
            click.echo(f"  {name}: {value if isinstance(value, str) else json.dumps(value)}", err=True)


def _call_http(url: str, body: bytes, timeout: float) -> bytes:
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            data: bytes = response.read()
            return data
    except urllib.error.HTTPError as error:
        return error.read()
    except (OSError, urllib.error.URLError) as error:
        fail(f"cannot reach {url}: {getattr(error, 'reason', None) or error}", EXIT_NO_CONNECTION)


def _call_websocket(url: str, body: bytes, timeout: float) -> bytes:
    async def converse() -> str | bytes:
        with trio.fail_after(timeout):
            async with open_websocket_url(url) as socket:
                await socket.send_message(body.decode())
                return await socket.get_message()

    try:
        message = trio.run(converse)
    except trio.TooSlowError:
        fail(f"{url} did not answer within {timeout:g} s", EXIT_NO_CONNECTION)
    except (OSError, ConnectionClosed, HandshakeError) as error:
        fail(f"cannot reach {url}: {error}", EXIT_NO_CONNECTION)
    return message.encode() if isinstance(message, str) else message
