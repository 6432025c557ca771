"""`herocoordinator backup` and `herocoordinator restore`: copies of an embedded store's data."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import click
import trio

from coordinator import ENVIRONMENT_PREFIX, __version__
from coordinator.cli.exit_codes import fail, first_leaf
from coordinator.cli.output import say
from coordinator.settings import Settings
from coordinator.storage.backup import CannotBackUp, CannotRestore, back_up, put_back
from coordinator.storage.connection import Connection, Reply
from coordinator.storage.embedded import EmbeddedValkey
from coordinator.storage.faults import EmbeddedFailed
from coordinator.storage.locking import DataDirectoryInUse

__all__ = ["backup", "restore"]

_data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar=f"{ENVIRONMENT_PREFIX}_DATA_DIR",
    help="The data directory; by default the one `serve` uses.",
)


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@_data_dir
def backup(target: Path, data_dir: Path | None) -> None:
    """Copy the data of the embedded store to TARGET, a directory that is made, while its coordinator serves or not.

    The copy is the store at one moment, with every write that was acknowledged before. It has no tokens and no keys of
    the data directory, but those of actors and the hashes of their tokens are in the store: keep it as safe.

    \b
    herocoordinator backup /var/backups/herocoordinator-2026-11-27
    """
    directory = (data_dir or Settings().data_dir).absolute()
    try:
        made = back_up(directory, target, __version__)
    except CannotBackUp as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot back up {directory} to {target}: {error.strerror or error}")
    say(f"{target}: {made.size / 2**20:,.1f} MiB; put back with: herocoordinator restore {target} --data-dir DIR")


@click.command()
@click.argument("source", type=click.Path(path_type=Path, file_okay=False, exists=True))
@_data_dir
def restore(source: Path, data_dir: Path | None) -> None:
    """Put what `backup` has copied to SOURCE into a data directory that is empty or not there, and start its store once
    to see that it can be read.

    Attempts that ran when it was copied count as lost with their runner: their jobs run again, or end, as
    --lost-retries and the jobs' own `lost_retries` say.

    \b
    herocoordinator restore /var/backups/herocoordinator-2026-11-27 --data-dir ./data
    """
    directory = (data_dir or Settings().data_dir).absolute()
    was_there = directory.exists()
    try:
        made = put_back(source, directory)
        keys = trio.run(_looked_at, directory)
    except CannotRestore as error:
        fail(str(error))
    except (DataDirectoryInUse, EmbeddedFailed) as error:
        _empty(directory, keep=was_there)
        fail(f"{source} cannot be read by the store: {first_leaf(error)}")
    except OSError as error:
        fail(f"cannot put {source} into {directory}: {error.strerror or error}")
    when = datetime.fromtimestamp(made.made_at, UTC)
    say(f"{directory}: {keys:,} keys, as they were at {when:%Y-%m-%d %H:%M:%S} UTC (version {made.version})")


def _empty(directory: Path, *, keep: bool) -> None:
    """It was empty, or not there at all."""
    if not keep:
        shutil.rmtree(directory, ignore_errors=True)
        return
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


async def _looked_at(directory: Path) -> int:
    """How many keys the store has, which is started for it. Raises DataDirectoryInUse, EmbeddedFailed."""
    async with EmbeddedValkey(directory, "always") as store:
        connection = Connection(await store.endpoint.open())
        try:
            replies: list[Reply] = []
            await connection.exchange([("INFO", "keyspace")], replies)
        finally:
            await connection.aclose()
    lines = [line.partition(b":keys=") for line in bytes(replies[0]).splitlines()]
    return sum(int(rest.partition(b",")[0]) for _, _, rest in lines if rest)
