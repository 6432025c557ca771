"""The command line: `serve`, `openrpc`, `call`; `runner` is in a package of its own."""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import urllib.error
import urllib.request
from typing import Any, NoReturn

import click
import structlog
import trio
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket_url

from coordinator import __version__, logs
from coordinator.app import App, CannotListen
from coordinator.options import options_of, validated
from coordinator.rpc.openrpc import document
from coordinator.runner.command import runner
from coordinator.settings import ENVIRONMENT_PREFIX, Settings
from coordinator.storage.embedded import DataDirectoryInUse, EmbeddedFailed
from coordinator.storage.faults import StoreMisconfigured

__all__ = ["main"]

log = structlog.get_logger("coordinator")

DEFAULT_URL = "http://127.0.0.1:9652"
CALL_TIMEOUT = 60.0
EXIT_ERROR_REPLY = 1
EXIT_NO_REPLY = 3


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="herocoordinator")
def main() -> None:
    """HeroCoordinator: a coordinator for distributed work.

    One JSON-RPC 2.0 API over HTTP and WebSocket for actors, contexts, runners, jobs, flows and messages.
    """


main.add_command(runner)


# -- serve


@main.command(context_settings={"show_default": False})
@options_of(Settings, ENVIRONMENT_PREFIX)
def serve(**given: Any) -> None:
    """Run the coordinator until SIGINT or SIGTERM.

    Without --redis-url or --redis-addr it starts a Valkey of its own that keeps the data in --data-dir. Every
    option can be given as the environment variable named beside it.
    """
    for name in ("allowed_origins", "allowed_hosts"):
        if given[name] is not None:
            given[name] = tuple(item.strip() for item in given[name].split(",") if item.strip())
    settings = validated(Settings, given)
    logs.configure(settings.log_level, settings.log_format)
    _raise_file_limit()
    _collect_garbage_less_often()
    try:
        trio.run(_serve, settings)
    except* (CannotListen, DataDirectoryInUse, EmbeddedFailed, StoreMisconfigured) as group:
        _fail(str(_first_leaf(group)))


async def _serve(settings: Settings) -> None:
    app = App(settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, app)
        await app.run()
        nursery.cancel_scope.cancel()


async def _stop_on_signal(app: App) -> None:
    """Stop on the first SIGINT or SIGTERM, leave at once on the second."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            app.stop()
            break
        async for _ in signals:
            log.warning("told to stop twice; leaving now")
            os._exit(1)


def _raise_file_limit() -> None:
    """A connection is a file descriptor; take as many as we may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _collect_garbage_less_often() -> None:
    """A 1 MiB body of `[[],[],…` takes 24 ms to parse like this and 110 with Python's own thresholds."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _first_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _fail(message: str, status: int = 1) -> NoReturn:
    click.echo(f"herocoordinator: {message}", err=True)
    sys.exit(status)


# -- openrpc


@main.command()
def openrpc() -> None:
    """Print the OpenRPC document of the API."""
    click.echo(json.dumps(document(), indent=2))


# -- call


@main.command()
@click.argument("method")
@click.argument("params", required=False, metavar="[JSON]")
@click.option(
    "--url",
    default=DEFAULT_URL,
    show_default=True,
    envvar=f"{ENVIRONMENT_PREFIX}_URL",
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
            request["params"] = json.loads(sys.stdin.read() if params == "-" else params)
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
        _fail(f"{url} did not answer in JSON: {reply[:200]!r}", EXIT_NO_REPLY)
    if isinstance(response, dict) and "result" in response:
        click.echo(json.dumps(response["result"], indent=2, ensure_ascii=False))
        return
    _print_error(response.get("error") if isinstance(response, dict) else response)
    sys.exit(EXIT_ERROR_REPLY)


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
        _fail(f"cannot reach {url}: {getattr(error, 'reason', None) or error}", EXIT_NO_REPLY)


def _call_websocket(url: str, body: bytes, timeout: float) -> bytes:
    async def converse() -> str | bytes:
        with trio.fail_after(timeout):
            async with open_websocket_url(url) as socket:
                await socket.send_message(body.decode())
                return await socket.get_message()

    try:
        message = trio.run(converse)
    except trio.TooSlowError:
        _fail(f"{url} did not answer within {timeout:g} s", EXIT_NO_REPLY)
    except (OSError, ConnectionClosed, HandshakeError) as error:
        _fail(f"cannot reach {url}: {error}", EXIT_NO_REPLY)
    return message.encode() if isinstance(message, str) else message
