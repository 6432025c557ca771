"""A command's connection to the coordinator: the options that lead there, and how a command ends when it fails."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click
import trio
from pydantic import ValidationError

from coordinator import ENVIRONMENT_PREFIX
from coordinator.cli.exit_codes import (
    AS_VARIABLE,
    CA_VARIABLE,
    CLIENT_CERT_VARIABLE,
    EXIT_ERROR,
    EXIT_NO_CONNECTION,
    EXIT_USAGE,
    KEY_VARIABLE,
    SIGNALLED,
    TOKEN,
    TOKEN_FILE_VARIABLE,
    URL_VARIABLE,
    fail,
    first_leaf,
)
from coordinator.cli.options import UINT32
from coordinator.cli.output import output_fault
from coordinator.client import CannotConnect, Client, ClientError, ConnectionLost, NoReply, connect
from coordinator.client.address import Address
from coordinator.client.credentials import Credentials, Unusable
from coordinator.client.stream import tls_context

__all__ = [
    "DEFAULT_CONTEXT",
    "DEFAULT_URL",
    "Place",
    "connected",
    "context_option",
    "credentials",
    "in_context",
    "interruptible",
    "run",
    "run_connected",
    "until_signal",
    "where",
    "who",
]

T = TypeVar("T")

DEFAULT_URL: Final = "ws://127.0.0.1:9653"
DEFAULT_CONTEXT: Final = 1
RECONNECT_FOR: Final = 60.0
"""Seconds without a coordinator after which a command that had one gives up."""


@dataclass(frozen=True)
class Place:
    """Where flows are: a coordinator and a context.

    Attributes:
        url: of its WebSocket or of its HTTP API, as it was given.
        ca: a file of the certificates to trust, instead of the system's.
    """

    url: str
    context: int
    ca: Path | None = None

    def command(self, name: str, *arguments: object) -> str:
        """A command line that does this here."""
        words = ["herocoordinator", *name.split(), *map(str, arguments)]
        if self.context != DEFAULT_CONTEXT or name == "runner":
            words += ["--context", str(self.context)]
        if self.url != DEFAULT_URL:
            words += ["--url", self.url]
        if self.ca is not None:
            words += ["--ca", str(self.ca)]
        return shlex.join(words)


def where(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command --url, --ca, and what it logs in with, which every command has alike. The last is kept with the
    command line, see `credentials`.

    Args:
        default: the URL without one.
    """
    url = click.option(
        "--url",
        default=default,
        show_default=True,
        envvar=URL_VARIABLE,
        show_envvar=True,
        callback=_checked_url,
        help="The coordinator's HTTP API or WebSocket: http://, https://, ws:// or wss://HOST:PORT.",
    )
    ca = click.option(
        "--ca",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        envvar=CA_VARIABLE,
        show_envvar=True,
        callback=_checked_ca,
        help="Certificates (PEM) to trust for https:// and wss://, instead of the system's.",
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        return url(ca(who(command)))

    return decorate


context_option: Final = click.option(
    "--context",
    type=UINT32,
    envvar=f"{ENVIRONMENT_PREFIX}_CONTEXT",
    show_envvar=True,
    help=f"The context.  [default: {DEFAULT_CONTEXT}]",
)


def in_context(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --url, --ca and --context, and hand it the three as its place."""

    @wraps(command)
    def placed(*, url: str, ca: Path | None, context: int | None, **given: Any) -> None:
        command(Place(url, DEFAULT_CONTEXT if context is None else context, ca), **given)

    return where(DEFAULT_URL)(context_option(placed))


def who(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say who calls, where callers log in."""
    file = click.Path(dir_okay=False, path_type=Path)
    shown = "Log in by this certificate (PEM, with its private key in the same file), over https:// and wss://."
    for name, kind, metavar, variable, about in (
        ("--client-cert", file, "FILE", CLIENT_CERT_VARIABLE, shown),
        ("--token-file", file, "FILE", TOKEN_FILE_VARIABLE, f"Log in with the token in it; or give it in {TOKEN}."),
        ("--as", str, "PRINCIPAL", AS_VARIABLE, "Whose --key it is: actor:ID, or runner:CONTEXT:ID."),
        ("--key", file, "FILE", KEY_VARIABLE, "Log in with this private key; see `herocoordinator key new`."),
    ):
        command = click.option(
            name,
            type=kind,
            metavar=metavar,
            envvar=variable,
            show_envvar=True,
            expose_value=False,
            callback=_remember,
            help=about,
        )(command)
    return command


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    context.meta[f"{__name__}.{option.opts[0]}"] = value


def credentials() -> Credentials | None:
    """What the command line, or the environment, has to log in with; None for nothing. Exits with 2 if that cannot be
    used."""
    context = click.get_current_context(silent=True)
    if context is None:
        return None
    names = ("--key", "--as", "--token-file", "--client-cert")
    key, principal, file, certificate = (context.meta.get(f"{__name__}.{name}") for name in names)
    token = "" if key is not None or file is not None else os.environ.get(TOKEN, "")
    if key is None and file is None and certificate is None and not token:
        return None
    found = Credentials(principal or "", key, token, None if key is not None else file, certificate)
    try:
        found.check()
    except Unusable as error:
        fail(str(error), EXIT_USAGE)
    return found


def _checked_url(_context: click.Context, _option: click.Parameter, url: str) -> str:
    try:
        Address.parse(url)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return url


def _checked_ca(_context: click.Context, _option: click.Parameter, ca: Path | None) -> Path | None:
    if ca is not None:
        try:
            tls_context(ca)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    return ca


@asynccontextmanager
async def connected(url: str, ca: Path | None = None) -> AsyncIterator[Client]:
    """A client that has been connected, and gets over a coordinator that is started anew.

    Raises:
        CannotConnect: there is no coordinator.
        ValueError: the URL is not one.
    """
    # The client cannot tell the first connection from later ones; one attempt must do here.
    who_calls = credentials()
    async with connect(url, ca=ca, give_up_after=0, credentials=who_calls) as attempt:
        await attempt.wait_connected()
    async with connect(url, ca=ca, give_up_after=RECONNECT_FOR, credentials=who_calls) as client:
        yield client


def run_connected(place: Place, work: Callable[[Client], Awaitable[int]]) -> NoReturn:
    """Exit with what `work` returns, or as suits the error it ended with."""

    async def main() -> int:
        async with connected(place.url, place.ca) as client:
            return await work(client)

    run(main)


def run(main: Callable[[], Awaitable[int]]) -> NoReturn:
    """`run_connected` for work that makes its own connection."""
    try:
        sys.exit(trio.run(interruptible, main))
    except SystemExit:
        raise
    except BaseException as raised:
        error = first_leaf(raised)
        status = _status_of(error)
        if status is None:
            raise error from raised
        fail(_words(error), status)


async def interruptible(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` returns. Raises KeyboardInterrupt if SIGINT came first, SystemExit for another signal; see
    `until_signal`."""
    result = await until_signal(work)
    if not isinstance(result, signal.Signals):
        return result
    if result == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(SIGNALLED + result)


async def until_signal(work: Callable[[], Awaitable[T]]) -> T | signal.Signals:
    """What `work` returns, or the signal that came first, once `work` has cleaned up: SIGINT, SIGTERM, or SIGHUP unless
    it is to be ignored (nohup) cancel it, and a second one ends the process. The KeyboardInterrupt that trio itself
    raises may hit any task: that of the connection, without which nothing can be cleaned up, or one that takes it for a
    fault of the connection."""
    came = signal.SIGINT
    ending = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        ending.append(signal.SIGHUP)

    async def cancel_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        nonlocal came
        async for number in signals:
            came = signal.Signals(number)
            for each in ending:
                signal.signal(each, signal.SIG_DFL)
            scope.cancel()

    with trio.open_signal_receiver(*ending) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_on_signal, signals, nursery.cancel_scope)
            result = await work()
            nursery.cancel_scope.cancel()
            return result
    return came


def _status_of(error: BaseException) -> int | None:
    if isinstance(error, CannotConnect):
        return EXIT_ERROR if error.denied else EXIT_NO_CONNECTION
    if isinstance(error, ConnectionLost | NoReply):
        return EXIT_NO_CONNECTION
    if isinstance(error, ClientError) or output_fault(error) is not None:
        return EXIT_ERROR
    return EXIT_USAGE if isinstance(error, ValidationError | Unusable) else None


def _words(error: BaseException) -> str:
    if (fault := output_fault(error)) is not None:
        return fault
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    return str(error) or type(error).__name__
