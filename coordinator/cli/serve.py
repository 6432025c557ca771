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
from coordinator.cli.options import misspelt_variables
from coordinator.cli.sources import Sources, WrongSettings, key_of, settings_options
from coordinator.osprocess import (
    collect_garbage_less_often,
    hide_secret_variables,
    open_files,
    raise_file_limit,
    share_the_interpreter_fairly,
)
from coordinator.server.app import App
from coordinator.server.bootstrap import CannotKeepAudit, CannotListen, CannotTrace, CannotUseTokens
from coordinator.server.descriptors import DoesNotFit, fit
from coordinator.server.systemd import Notifier
from coordinator.server.tls import CannotUseTls
from coordinator.server.workers.parent import Parent, WorkerFailed
from coordinator.settings import RELOADED, RELOADED_TLS, Settings
from coordinator.storage.faults import EmbeddedFailed, StoreMisconfigured
from coordinator.storage.locking import DataDirectoryInUse
from coordinator.storage.url import has_password
from coordinator.supervision import contain

__all__ = ["serve"]

log = structlog.get_logger("coordinator")

_URL_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}_REDIS_URL"

CANNOT_SERVE = (
    CannotKeepAudit,
    CannotListen,
    CannotUseTls,
    CannotTrace,
    CannotUseTokens,
    DataDirectoryInUse,
    EmbeddedFailed,
    StoreMisconfigured,
    WorkerFailed,
)
"""What App.run and Parent.run say they cannot start with."""


@click.command(context_settings={"show_default": False})
@settings_options
@click.option("--mycelium-ip", hidden=True)
@click.option("--mycelium-port", hidden=True)
@click.pass_context
def serve(ctx: click.Context, /, mycelium_ip: str | None, mycelium_port: str | None, **given: Any) -> None:
    """Run the coordinator until SIGINT or SIGTERM.

    Without --redis-url or --redis-addr it starts a Valkey of its own that keeps the data in --data-dir. Every
    option can be given as the environment variable named beside it, and in the file of --config.

    \b
    herocoordinator serve
    herocoordinator serve --data-dir ./data --workers 2
    herocoordinator serve --isolation prefix --redis-url redis://127.0.0.1:6379
    herocoordinator serve --config coordinator.toml

    On SIGHUP it reads the file of --config and the certificate again.
    """
    _move_off_the_command_line(given["redis_url"])
    sources = Sources(ctx, given)
    effective = sources.read_or_exit()
    hide_secret_variables()
    logs.configure(effective.settings.log_level, effective.settings.log_format)
    if mycelium_ip is not None or mycelium_port is not None:
        log.warning("--mycelium-ip and --mycelium-port have no effect: runners connect to the coordinator themselves")
    for variable, meant in misspelt_variables(Settings, ENVIRONMENT_PREFIX):
        log.warning("there is no such setting", variable=variable, did_you_mean=meant)
    settings = _fitting(effective.settings)
    collect_garbage_less_often()
    share_the_interpreter_fairly()
    complaint = None
    try:
        trio.run(_serve, settings, _Reloader(sources, effective.settings), Notifier(os.environ))
    except* CANNOT_SERVE as group:
        complaint = str(first_leaf(group))
    if complaint is not None:
        fail(complaint)


def _move_off_the_command_line(url: str | None) -> None:
    """With a password in the store's URL, start anew without that and with the variable instead: every user of the
    machine sees our command line."""
    if url is None or not has_password(url):
        return
    # As Python itself was called; what was given otherwise, as in a test of this command, is nobody's to see.
    before = sys.orig_argv
    given = sys.argv[1:]
    if given and given[0].startswith("-") and before[-len(given) :] == given:  # without the URL it may mean no command
        before = [*before[: -len(given)], "serve", *given]
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


async def _serve(settings: Settings, reloader: _Reloader, notifier: Notifier) -> None:
    app = App(settings) if settings.workers == 1 else Parent(settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, app, notifier)
        nursery.start_soon(_reload_on_signal, app, reloader, notifier)
        await app.run(task_status=_Started(notifier, nursery))
        nursery.cancel_scope.cancel()


class _Started:
    """Is told when an app serves."""

    def __init__(self, notifier: Notifier, nursery: trio.Nursery) -> None:
        self._notifier = notifier
        self._nursery = nursery

    def started(self, _: object = None) -> None:
        self._notifier.ready()
        # Not before: what is said is lost while a queue is full that nobody reads.
        self._nursery.start_soon(self._notifier.say_alive)


async def _stop_on_signal(app: App | Parent, notifier: Notifier) -> None:
    """Stop on the first SIGINT, or when the drain after the first SIGTERM has ended. The signal after that has us leave
    at once."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        number = await anext(signals)
        drain = app.settings.drain
        if number == signal.SIGTERM and drain:
            log.info("draining: not ready any more, and serving on", seconds=drain)
            notifier.stopping("draining")
            app.drain()
            with trio.move_on_after(drain):
                await anext(signals)
        notifier.stopping("stopping")
        app.stop()
        await anext(signals)
        log.warning("told to stop twice; leaving now")
        os._exit(1)


async def _reload_on_signal(app: App | Parent, reloader: _Reloader, notifier: Notifier) -> None:
    """Read the settings and the certificate again on SIGHUP. If it came because our terminal was closed, stop
    instead."""
    was_terminal = os.isatty(sys.stderr.fileno())
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            if was_terminal and not os.isatty(sys.stderr.fileno()):
                app.stop()
                return
            notifier.reloading()
            with contain("reading the settings again"):
                app.reload(await reloader.changes())
            notifier.ready()


class _Reloader:
    """Finds what has changed in the file of --config.

    Args:
        settings: those that the file and the other sources said at the start.
    """

    def __init__(self, sources: Sources, settings: Settings) -> None:
        self._sources = sources
        self._settings = settings

    async def changes(self) -> dict[str, Any]:
        """What is to be changed now, by name. The log says what that is, and what needs a restart."""
        if self._sources.file is None:
            return {}
        try:
            # Names of hosts may be looked up.
            new = (await trio.to_thread.run_sync(self._sources.read)).settings
        except WrongSettings as error:
            log.error("SIGHUP: the settings stay as they are", reason=str(error))
            return {}
        before = self._settings
        given = before.model_fields_set | new.model_fields_set
        changed = {name for name in given if getattr(before, name) != getattr(new, name)}
        possible = RELOADED if before.is_tls == new.is_tls else RELOADED - RELOADED_TLS
        changes = {name: getattr(new, name) for name in sorted(changed & possible)}
        self._settings = before.model_copy(update=changes)
        log.info(
            "SIGHUP: the settings were read again",
            file=str(self._sources.file),
            changed=[key_of(name) for name in changes],
            need_restart=[key_of(name) for name in sorted(changed - possible)],
        )
        return changes
