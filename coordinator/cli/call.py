"""`herocoordinator call`: one call from a shell."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from coordinator.cli.connection import credentials, run, where
from coordinator.cli.exit_codes import EXIT_ERROR
from coordinator.cli.output import say, say_json
from coordinator.client import RpcError, call_once

__all__ = ["call"]

DEFAULT_URL: Final = "http://127.0.0.1:9652"
CALL_TIMEOUT: Final = 60.0


def _positive(_context: click.Context, _option: click.Parameter, seconds: float) -> float:
    if not 0 < seconds < math.inf:
        raise click.BadParameter("must be a number of seconds over 0")
    return seconds


@click.command()
@click.argument("method")
@click.argument("params", required=False, metavar="[JSON]")
@where(DEFAULT_URL)
@click.option(
    "--timeout",
    default=CALL_TIMEOUT,
    show_default=True,
    callback=_positive,
    help="Seconds to connect and wait for the reply.",
)
def call(method: str, params: str | None, url: str, ca: Path | None, timeout: float) -> None:
    """Call METHOD with params given as JSON (- reads them from standard input) and print its result.

    With http:// or https:// it is a POST, with ws:// or wss:// a message on a WebSocket.

    Exit status: 0 a result, 1 an error reply, 2 a wrong command line, 3 no reply at all, 130 interrupted.

    \b
    herocoordinator call actor.create '{"actor": {"id": 7, "pubkey": "k", "address": ["::1"]}}'
    herocoordinator call flow.load - < params.json
    herocoordinator call --url ws://127.0.0.1:9653 actor.load '{"id": 7}'
    herocoordinator call --url https://hero.example:9652 --ca ca.pem context.list
    """
    content = None if params is None else _read(params)

    async def main() -> int:
        try:
            result = await call_once(url, method, content, ca=ca, timeout=timeout, credentials=credentials())
        except RpcError as error:
            _print_error(error)
            return EXIT_ERROR
        say_json(result)
        return 0

    run(main)


def _read(params: str) -> Any:
    """The params given, or those on standard input. Exits with 2 if they are no JSON that can be sent."""
    try:
        text = _standard_input() if params == "-" else params
        content = json.loads(text.removeprefix("\ufeff"), parse_constant=_refuse, parse_float=_finite)
        json.dumps(content, ensure_ascii=False).encode()  # half of a surrogate pair cannot be sent
    except RecursionError:
        raise click.BadParameter("nested too deep", param_hint="JSON") from None
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="JSON") from error
    return content


def _standard_input() -> str:
    """All of it, which is UTF-8 as JSON is, whatever the terminal speaks."""
    return sys.stdin.buffer.read().decode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"there is no {constant} in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large")
    return value


def _print_error(error: RpcError) -> None:
    say(f"error {error.code}: {error.message}", err=True)
    if isinstance(error.data, list):
        for fault in error.data:
            place = ".".join(map(str, fault.get("loc", []))) or "params"
            say(f"  {place}: {fault.get('msg')}", err=True)
    elif isinstance(error.data, dict):
        for name, value in error.data.items():
            say(f"  {name}: {value if isinstance(value, str) else json.dumps(value)}", err=True)
