"""`herocoordinator import-original`: what the original HeroCoordinator has stored, as contexts here."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import trio

from coordinator import __version__
from coordinator.cli.connection import interruptible
from coordinator.cli.exit_codes import EXIT_USAGE, fail, first_leaf
from coordinator.cli.options import UINT32
from coordinator.cli.output import plural, say
from coordinator.cli.sources import Sources, settings_options
from coordinator.osprocess import hide_secret_variables
from coordinator.server.visiting import visited_store
from coordinator.settings import Settings
from coordinator.storage.connection import Store
from coordinator.storage.exported import verify
from coordinator.storage.faults import EmbeddedFailed
from coordinator.storage.importing import import_context
from coordinator.storage.locking import DataDirectoryInUse
from coordinator.storage.original import Found, Original, reading
from coordinator.storage.visit import CannotTransfer, is_there, visiting

__all__ = ["import_original"]


@click.command(name="import-original", context_settings={"show_default": False})
@click.argument("source", metavar="REDIS_URL", envvar="HEROCOORDINATOR_ORIGINAL_URL")
@click.option("--apply", "applies", is_flag=True, help="Bring it. Without this it is only said what would be brought.")
@click.option("--context", "only", type=UINT32, multiple=True, help="Only this context; give it once for each.")
@click.option("--keep-actors", is_flag=True, help="An actor that is there with another key keeps that.")
@settings_options
@click.pass_context
def import_original(
    ctx: click.Context, /, source: str, applies: bool, only: tuple[int, ...], keep_actors: bool, **given: Any
) -> None:
    """Bring the contexts of the original HeroCoordinator, from its Redis at REDIS_URL, into the store that `serve` with
    the same options uses: actors, contexts, runners, jobs, flows and messages. A REDIS_URL with a password is better
    given as HEROCOORDINATOR_ORIGINAL_URL.

    Without --apply nothing is changed: it says what would be brought, what would be so in another way, and what cannot
    be brought and why. With --apply a context is brought whole or not at all. One that is there already is left as it
    is, so the command can be run again. Nothing is written to the original's Redis; stop the original first, so that it
    does not go on with what is brought.

    What has ended stays so, with its results. A flow that was started is Dispatched, and `flow.start` goes on with it:
    its finished jobs do not run again. A job that ran at that moment does.

    \b
    herocoordinator import-original redis://127.0.0.1:6379 --data-dir ./data
    herocoordinator import-original redis://127.0.0.1:6379 --data-dir ./data --apply

    Exit status: 0 done, 1 it failed or something cannot be brought, 2 a wrong command line, 130 interrupted.
    """
    settings = Sources(ctx, given).read_or_exit().settings
    hide_secret_variables()

    async def main() -> bool:
        return await _bring(source, settings, only, applies=applies, keep_actors=keep_actors)

    try:
        is_all = trio.run(interruptible, main)
    except BaseException as raised:
        error = first_leaf(raised)
        match error:
            case ValueError():
                fail(f"REDIS_URL: {error}", EXIT_USAGE)
            case CannotTransfer() | DataDirectoryInUse() | EmbeddedFailed():
                fail(str(error))
            case OSError():
                fail(f"cannot write a temporary file: {(error.strerror or str(error)).lower()}")
            case _:
                raise error from raised
    if not is_all:
        fail("not all of it can be brought; see above")


async def _bring(source: str, settings: Settings, only: Sequence[int], *, applies: bool, keep_actors: bool) -> bool:
    """Returns whether there was nothing that cannot be brought. Raises ValueError: the URL is none; CannotTransfer."""
    async with reading(source) as original:
        databases = await original.databases()
        actors, left = await original.actors()
        contexts = [id for id in databases if not only or id in only]
        with tempfile.TemporaryDirectory(prefix="herocoordinator-") as directory:
            brought: list[tuple[Found, Path]] = []
            for id in contexts:
                file = Path(directory, f"{id}.jsonl")
                found = await _read(original, id, actors, file)
                if found is not None and found.fault:
                    left.append(f"context {id}, all of it: {found.fault}")
                elif found is not None:
                    brought.append((found, file))
                elif id != 0:
                    left.append(f"database {id}: it has no context:{id}, so it is no context")
            for id in sorted({*only} - {found.context for found, _ in brought}):
                left.append(f"context {id}: it is not there")
            say(f"{_counted(len(actors), 'actor')}, {_counted(len(brought), 'context')}")
            for reason in left:
                say(f"  left: {reason}")
            if not brought and actors:
                say("  left: the actors, which are brought with a context")
            for found, _ in brought:
                _tell(found)
            if not applies:
                say("nothing was changed; --apply brings it")
            else:
                async with visited_store(settings, makes_data=True) as store:
                    for found, file in brought:
                        try:
                            await _import(store, found.context, file, keep_actors=keep_actors)
                        except CannotTransfer as error:  # the others may well be brought
                            found.left.append(str(error))
                            say(f"context {found.context}: not brought: {error}")
    return not left and not any(found.left for found, _ in brought) and bool(brought or not actors)


async def _read(original: Original, id: int, actors: dict[int, dict[str, str]], file: Path) -> Found | None:
    with file.open("wb") as target:
        return await original.write(id, actors, time.time_ns() // 1_000_000, __version__, target.write)


def _counted(count: int, kind: str) -> str:
    return f"{count:,} {plural(count, kind)}"


def _tell(found: Found) -> None:
    counts = [
        f"{_counted(count, kind)}{f' {status}' if status else ''}"
        for (kind, status), count in found.counts.items()
        if kind != "context"
    ]
    say(f"context {found.context}: {', '.join(counts) or 'nothing in it'}")
    for reason in found.changed:
        say(f"  changed: {reason}")
    for reason in found.left:
        say(f"  left: {reason}")


async def _import(store: Store, context: int, file: Path, *, keep_actors: bool) -> None:
    async with visiting(store, context) as visit:
        if await is_there(visit, context):
            say(f"context {context}: it is there already, and left as it is")
            return
    header = verify(file, lambda number: None)
    imported = await import_context(
        store, file, header, replace=False, keep_actors=keep_actors, on_progress=lambda number: None
    )
    say(f"context {context}: brought, {imported.keys:,} keys, {_counted(imported.actors, 'new actor')}")
