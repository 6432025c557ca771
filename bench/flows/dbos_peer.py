"""DBOS, workflows that start four others and wait for them, on a Postgres of its own, or on SQLite where there is none.

`python -m bench.flows.dbos_peer SOCKET FLOWS` prints its figures as a line of JSON. It has no use for the Valkey.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dbos import DBOS

AT_ONCE: Final = 100  # flows that are under way, as BullMQ's concurrency
START_TIMEOUT: Final = 60.0  # seconds
USER: Final = "postgres"  # the one Postgres runs as if we are root, which it refuses
# As the Valkey of the others: what was acknowledged is on the disk a little later.
OPTIONS: Final = {"listen_addresses": "", "synchronous_commit": "off", "shared_buffers": "256MB"}


def programs() -> Path | None:
    """Where Postgres has its programs; None if it is not on this machine, or nobody is who could run it."""
    if os.geteuid() == 0 and not any(entry.pw_name == USER for entry in pwd.getpwall()):
        return None
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    found = shutil.which("postgres") or (str(installed[-1]) if installed else None)
    directory = Path(found).resolve().parent if found else None
    return directory if directory is not None and (directory / "initdb").exists() else None


@contextlib.contextmanager
def database() -> Iterator[str]:
    """The URL of an empty database, which is removed afterwards."""
    found = programs()
    with tempfile.TemporaryDirectory(prefix="hc-bench-") as name:
        directory = Path(name)
        if found is None:
            yield f"sqlite:///{directory}/dbos.sqlite"
            return
        as_user = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
        if as_user:
            shutil.chown(directory, USER)
        data = directory / "data"
        make = [*as_user, str(found / "initdb"), "-D", str(data), "-U", USER, "-A", "trust", "--no-sync"]
        subprocess.run(make, cwd=directory, stdout=subprocess.DEVNULL, check=True)
        serve = [*as_user, str(found / "postgres"), "-D", str(data), "-k", str(directory)]
        serve += [word for option, value in OPTIONS.items() for word in ("-c", f"{option}={value}")]
        process = subprocess.Popen(serve, cwd=directory, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while not _is_ready(data):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("Postgres does not start")
                time.sleep(0.05)
            yield f"postgresql://{USER}@/dbos?host={directory}"
        finally:
            process.terminate()
            process.wait(30)


def _is_ready(data: Path) -> bool:
    """Whether the server takes connections, which is the last line of a file of its; the socket is there earlier."""
    state = data / "postmaster.pid"
    return state.exists() and state.read_text().split()[-1:] == ["ready"]


@DBOS.workflow()  # type: ignore[untyped-decorator]
async def child() -> dict[str, str]:
    return {"a": "1"}


@DBOS.workflow()  # type: ignore[untyped-decorator]
async def parent() -> dict[str, str]:
    for handle in [await DBOS.start_workflow_async(child) for _ in range(4)]:
        await handle.get_result()
    return {"a": "1"}


async def rate(flows: int) -> dict[str, float]:
    """Jobs a second, from the first flow started to the last one's result."""
    left = iter(range(flows))

    async def lane() -> None:
        for _ in left:
            await parent()

    began = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
    return {"jobs_per_s": flows * 5 / (time.perf_counter() - began)}


if __name__ == "__main__":
    with database() as url:
        DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR", "sys_db_pool_size": 20})
        DBOS.launch()
        try:
            print(json.dumps(asyncio.run(rate(int(sys.argv[2])))))
        finally:
            DBOS.destroy()
