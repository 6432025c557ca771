"""`herocoordinator serve`: command line → Settings → App, or Parent of several workers, in trio.run."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, Final

import click
import structlog
import trio

from coordinator import ENVIRONMENT_PREFIX, logs
from coordinator.cli.exit_codes import EXIT_USAGE, fail, first_leaf
from coordinator.cli.options import options_of, validated
from coordinator.osprocess import (
    collect_garbage_less_often,
    hide_secret_variables,
    open_files,
    raise_file_limit,
    share_the_interpreter_fairly,
)
from coordinator.server.app import App
from coordinator.server.bootstrap import CannotKeepAudit, CannotListen, CannotUseTokens
from coordinator.server.descriptors import DoesNotFit, fit
from coordinator.server.tls import CannotUseTls
from coordinator.server.workers.parent import Parent, WorkerFailed
from coordinator.settings import Settings
from coordinator.storage.embedded import DataDirectoryInUse, EmbeddedFailed
from coordinator.storage.faults import StoreMisconfigured
from coordinator.storage.url import has_password

__all__ = ["CANNOT_SERVE", "serve"]

log = structlog.get_logger("coordinator")

_URL_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}_REDIS_URL"

CANNOT_SERVE = (
    CannotKeepAudit,
    CannotListen,
    CannotUseTls,
    CannotUseTokens,
    DataDirectoryInUse,
    EmbeddedFailed,
    StoreMisconfigured,
    WorkerFailed,
)
"""What App.run and Parent.run say they cannot start with."""


@click.command(context_settings={"show_default": False})
@options_of(Settings, ENVIRONMENT_PREFIX)
def serve(**given: Any) -> None:
    """Run the coordinator until SIGINT or SIGTERM.

    Without --redis-url or --redis-addr it starts a Valkey of its own that keeps the data in --data-dir. Every
    option can be given as the environment variable named beside it.

    \b
    herocoordinator serve
    herocoordinator serve --data-dir ./data --workers 2
    herocoordinator serve --isolation prefix --redis-url redis://127.0.0.1:6379
    """
    _move_off_the_command_line(given["redis_url"])
    for name in ("allowed_origins", "allowed_hosts", "behind_proxy", "jwt_algorithms"):
        if given[name] is not None:
            given[name] = tuple(item.strip() for item in given[name].split(",") if item.strip())
    settings = validated(Settings, given)
    hide_secret_variables()
    logs.configure(settings.log_level, settings.log_format)
    settings = _fitting(settings)
    collect_garbage_less_often()
    share_the_interpreter_fairly()
    try:
        trio.run(_serve, settings)
    except* CANNOT_SERVE as group:
        fail(str(first_leaf(group)))


def _move_off_the_command_line(url: str | None) -> None:
    """With a password in the store's URL, start anew without that and with the variable instead: every user of the
    machine sees our command line."""
    if url is None or not has_password(url):
        return
    # As Python itself was called; what was given otherwise, as in a test of this command, is nobody's to see.
    before = sys.orig_argv
    for at, word in enumerate(before):
        if word == f"--redis-url={url}":
            words = [*before[:at], *before[at + 1 :]]
        elif word == url and before[at - 1] == "--redis-url":
            words = [*before[: at - 1], *before[at + 1 :]]
        else:
            continue
        os.execve(sys.executable, [sys.executable, *words[1:]], {**os.environ, _URL_VARIABLE: url})


def _fitting(settings: Settings) -> Settings:
    """The settings reduced until they fit under the limit of open files. What cannot fit ends the process with 2."""
    limit = raise_file_limit()
    try:
        fitting = fit(settings, limit, open_files())
    except DoesNotFit as error:
        fail(str(error), EXIT_USAGE)
    reduced = {name: value for name, value in fitting if value != getattr(settings, name)}
    if reduced:
        log.warning(
            "fewer connections than by default, for the limit of open files (ulimit -n)", limit=limit, **reduced
        )
    return fitting


async def _serve(settings: Settings) -> None:
    app = App(settings) if settings.workers == 1 else Parent(settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, app)
        nursery.start_soon(_reload_on_signal, app)
        await app.run()
        nursery.cancel_scope.cancel()


async def _stop_on_signal(app: App | Parent) -> None:
    """Stop on the first SIGINT or SIGTERM, leave at once on the second."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            app.stop()
            break
        async for _ in signals:
            log.warning("told to stop twice; leaving now")
            os._exit(1)


async def _reload_on_signal(app: App | Parent) -> None:
    """Read the certificate again on SIGHUP. If it came because our terminal was closed, stop instead."""
    was_terminal = os.isatty(sys.stderr.fileno())
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            if was_terminal and not os.isatty(sys.stderr.fileno()):
                app.stop()
                return
            app.reload()
