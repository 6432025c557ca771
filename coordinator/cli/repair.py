"""`herocoordinator repair`: makes damaged append-only files of a data directory usable, and says what is lost."""

from __future__ import annotations

import fcntl
from pathlib import Path

import click

from coordinator import ENVIRONMENT_PREFIX
from coordinator.cli.exit_codes import fail
from coordinator.cli.options import validated
from coordinator.cli.output import say
from coordinator.settings import Settings
from coordinator.storage import aof
from coordinator.storage.private import NotPrivate, open_private

__all__ = ["repair"]


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar=f"{ENVIRONMENT_PREFIX}_DATA_DIR",
    help="The data directory; by default the one `serve` uses.",
)
def repair(data_dir: Path | None) -> None:
    """Repair the append-only files of a data directory that no coordinator uses.

    They are copied first. What cannot be read, from the first damaged command on, is cut off and named.
    """
    directory = validated(Settings, {"data_dir": data_dir}).data_dir.absolute()
    try:
        with open_private(directory / "lock", "a+") as ours, open_private(directory / "valkey.lock", "a+") as valkeys:
            for lock in (ours, valkeys):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for line in aof.repair(directory):
                say(line)
    except BlockingIOError:
        fail(f"the data directory {directory} is in use: stop its coordinator first")
    except (aof.CannotRepair, NotPrivate) as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot repair {directory}: {error.strerror or error}")
    say("done; start the coordinator again")
