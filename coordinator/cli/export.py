"""`herocoordinator export` and `herocoordinator import`: a context as a file of JSON Lines."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import trio

from coordinator import __version__
from coordinator.cli.connection import interruptible
from coordinator.cli.exit_codes import EXIT_USAGE, fail, first_leaf
from coordinator.cli.options import NEW_FILE, UINT32, NamedPath
from coordinator.cli.output import plural, say
from coordinator.cli.sources import Sources, settings_options
from coordinator.osprocess import hide_secret_variables
from coordinator.server.visiting import visited_store
from coordinator.settings import Settings
from coordinator.storage.connection import Store
from coordinator.storage.exported import Damaged, Header, verify
from coordinator.storage.exporting import export_context
from coordinator.storage.faults import EmbeddedFailed
from coordinator.storage.importing import abandon_import, import_context
from coordinator.storage.locking import DataDirectoryInUse
from coordinator.storage.visit import CannotTransfer

__all__ = ["export", "import_"]

T = TypeVar("T")
SAID_EVERY: Final = 2.0  # seconds


@click.command(context_settings={"show_default": False})
@click.argument("file", type=NEW_FILE)
@click.option("--context", type=UINT32, required=True, help="The context to export.")
@click.option("--overwrite", is_flag=True, help="Write over FILE if it is there.")
@settings_options
@click.pass_context
def export(ctx: click.Context, /, file: Path, context: int, overwrite: bool, **given: Any) -> None:
    """Write all of a context to FILE as JSON Lines: its record and actors, runners, jobs, flows, messages,
    prerequisites, queues, timers, events and logs.

    It takes the options of `serve`, and reads the store that `serve` with these uses, while it serves or not. The file
    is for you alone (0600): env_vars, results and the tokens of running attempts are in it. Its name is FILE.part until
    it is whole.

    The context is held still meanwhile: calls that write to it wait, and its leases and time-outs stand still; other
    contexts go on. An export is a copy: the context goes on at its source. So that nothing is run in both places, stop
    its runners here, or delete it, before an import goes on with it.

    \b
    herocoordinator export --context 1 context-1.jsonl
    herocoordinator import context-1.jsonl --redis-url redis://other:6379

    Exit status: 0 done, 1 it failed and there is no FILE, 2 a wrong command line, 130 interrupted.
    """
    settings = _settings(ctx, given)
    if file.exists() and not overwrite:
        fail(f"{file} is there already; --overwrite writes over it", EXIT_USAGE)
    part = file.with_name(f"{file.name}.part")
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        fail(f"cannot write {part}: {(error.strerror or str(error)).lower()}")
    try:
        with open(descriptor, "wb", buffering=1024 * 1024) as target:

            async def work(store: Store) -> int:
                now, progress = time.time_ns() // 1_000_000, _Progress("keys")
                keys = await export_context(store, context, __version__, now, target.write, progress.show)
                target.flush()
                os.fsync(target.fileno())
                return keys

            keys = _run(settings, work, makes_data=False)
        os.replace(part, file)
    except OSError as error:
        fail(f"cannot write {file}: {(error.strerror or str(error)).lower()}")
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    say(f"{file}: context {context}, {keys:,} keys, {file.stat().st_size / 2**20:,.1f} MiB")


@click.command(name="import", context_settings={"show_default": False})
@click.argument("file", type=NamedPath(path_type=Path, dir_okay=False, exists=True), required=False)
@click.option("--replace", is_flag=True, help="Delete a context of that id that is there, once all of FILE is brought.")
@click.option("--keep-actors", is_flag=True, help="An actor that is there with another key keeps that.")
@click.option(
    "--abandon",
    type=UINT32,
    metavar="CONTEXT",
    help="Delete what an import into this context has left that was not finished; without FILE.",
)
@settings_options
@click.pass_context
def import_(
    ctx: click.Context,
    /,
    file: Path | None,
    replace: bool,
    keep_actors: bool,
    abandon: int | None,
    **given: Any,
) -> None:
    """Bring the context in FILE, which `export` has written, into the store that `serve` with the same options uses,
    while it serves or not.

    FILE is read to its end first: one that is damaged changes nothing. What is brought is not to be seen before all of
    it is there; if that fails or is interrupted, it is deleted. What even that has left the next import deletes, or
    --abandon. Actors that are not there are created; tokens are not in an export.

    The context goes on where it stood when it was exported. An attempt that ran then is lost, and its job tried again,
    when what remained of its lease has passed, unless its runner reports it here.

    \b
    herocoordinator import context-1.jsonl --redis-url redis://other:6379 --isolation prefix

    Exit status: 0 done, 1 it failed, 2 a wrong command line, 130 interrupted.
    """
    settings = _settings(ctx, given)
    if (file is None) is (abandon is None):
        fail("give either FILE, or --abandon CONTEXT", EXIT_USAGE)
    if abandon is not None:
        found = _run(settings, lambda store: abandon_import(store, abandon), makes_data=False)
        say(f"context {abandon}: " + ("what an import had left is deleted" if found else "no import was unfinished"))
        return
    assert file is not None
    progress = _Progress("lines")
    try:
        header: Header = verify(file, lambda number: progress.show(number, None, "read"))
        imported = _run(
            settings,
            lambda store: import_context(
                store,
                file,
                header,
                replace=replace,
                keep_actors=keep_actors,
                on_progress=lambda number: progress.show(number, None, "brought"),
            ),
            makes_data=True,
        )
    except Damaged as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot read {file}: {(error.strerror or str(error)).lower()}")
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(header.exported_at / 1000))
    actors = f", {imported.actors} new {plural(imported.actors, 'actor')}"
    say(f"context {header.context}: {imported.keys:,} keys{actors}, as it was at {when}")


class _Progress:
    """Says on standard error how far it is, now and then."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._due = time.monotonic() + SAID_EVERY

    def show(self, done: int, of: int | None, verb: str = "written") -> None:
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + SAID_EVERY
            say(f"  {done:,}{f' of {of:,}' if of else ''} {self._what} {verb}", err=True)


def _settings(ctx: click.Context, given: dict[str, Any]) -> Settings:
    settings = Sources(ctx, given).read_or_exit().settings
    hide_secret_variables()
    return settings


def _run(settings: Settings, work: Callable[[Store], Awaitable[T]], *, makes_data: bool) -> T:
    """What `work` on the store returns; a failure is said, and the process exits. Raises Damaged, OSError."""

    async def main() -> T:
        async with visited_store(settings, makes_data=makes_data) as store:
            return await work(store)

    try:
        return trio.run(partial(interruptible, main))
    except BaseException as raised:
        error = first_leaf(raised)
        match error:
            case Damaged() | OSError() | SystemExit() | KeyboardInterrupt():
                raise error from raised
            case CannotTransfer() | DataDirectoryInUse() | EmbeddedFailed():
                fail(str(error))
            case _:
                raise
