"""What records take of memory and disk, and calls of processor time: the tables of docs/operations/sizing.md.

`python -m bench.sizing` prints them as Markdown. They count bytes and processor time, which other users of the machine
change little; the rates beside them are only of the machine as it was then.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_urlsafe
from typing import Any, Final

from bench.machine import Cores, cpu_seconds, resident_bytes
from bench.servers import Coordinator, coordinator
from coordinator.load import messages

JOBS: Final = 100_000
BATCH: Final = 500
FLAGS: Final = ("--max-body-bytes", str(16 << 20), "--max-batch-reply-bytes", str(64 << 20))

LOADS: Final = (
    ("load", "--scenario", "load", "--connections", "1", "--window", "1"),
    ("load", "--scenario", "load", "--connections", "20", "--window", "1"),
    ("load", "--scenario", "load", "--connections", "200", "--window", "1"),
    ("load", "--scenario", "load", "--connections", "1000", "--window", "1"),
    ("load", "--scenario", "load", "--connections", "20", "--window", "64"),
    ("load", "--scenario", "contexts", "--connections", "20", "--window", "64", "--contexts", "10"),
    ("load", "--scenario", "contexts", "--connections", "20", "--window", "64", "--contexts", "100"),
    ("load", "--scenario", "contexts", "--connections", "20", "--window", "64", "--contexts", "1000"),
    ("create", "--scenario", "create", "--connections", "20", "--window", "1"),
    ("create", "--scenario", "create", "--connections", "20", "--window", "64"),
)


class Measured:
    """A coordinator of one process, and its store."""

    def __init__(self, server: Coordinator) -> None:
        self.server = server

    def call(self, message: Any) -> Any:
        told = self.server.post(messages.render(message))
        failed = [one for one in (told if isinstance(told, list) else [told]) if "error" in one]
        assert not failed, failed[0]
        return told

    def one(self, method: str, **params: Any) -> Any:
        return self.call({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})["result"]

    def store_bytes(self) -> int:
        """What the store's data takes, as it says itself."""
        time.sleep(4)  # it is asked every two seconds at most
        return int(self.server.metric("herocoordinator_store_memory_bytes"))

    def calls(self) -> int:
        """Taken so far."""
        return int(self.server.metric("herocoordinator_calls_total"))

    def resident(self) -> int:
        return resident_bytes(self.server.processes["server"])

    def disk(self) -> int:
        return sum(size_of(path) for path in (self.server.store.parent / "appendonlydir").iterdir())

    def seconds(self) -> tuple[float, float]:
        """Processor time: of the coordinator, of the store."""
        return cpu_seconds(self.server.processes["server"]), cpu_seconds(self.server.processes["valkey"])


@contextmanager
def measured(*flags: str) -> Iterator[Measured]:
    root = Path(os.environ.get("BENCH_DATA", tempfile.gettempdir()))
    with coordinator(Cores.choose(), root, *FLAGS, *flags, may_warn=True) as server:
        yield Measured(server)


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a rewrite has just removed it
        return 0


def job(context: int, id: int, script: int) -> dict[str, Any]:
    text = token_urlsafe(script)[:script]  # which cannot be compressed
    return {**messages.job(context, 0), "id": id, "script": text, "retries": 0}


def creates(context: int, script: int) -> Iterator[list[Any]]:
    for first in range(1, JOBS, BATCH):
        yield [
            {
                "jsonrpc": "2.0",
                "id": id,
                "method": "job.create",
                "params": {"context_id": context, "job": job(context, id, script)},
            }
            for id in range(first, first + BATCH)
        ]


def submits(context: int, script: int) -> Iterator[dict[str, Any]]:
    for first in range(1, JOBS, 1000):
        jobs = [job(context, id, script) for id in range(first, first + 1000)]
        flow = {"id": first, "caller_id": 7, "context_id": context, "jobs": [one["id"] for one in jobs], "env_vars": {}}
        params = {"context_id": context, "flow": flow, "jobs": jobs}
        yield {"jsonrpc": "2.0", "id": 1, "method": "flow.submit", "params": params}


def run_all(here: Measured, context: int) -> Iterator[int]:
    """Have a runner finish all that waits, each job with a small result; yields how many are done."""
    runner = {"id": 1, "pubkey": "", "address": "127.0.0.1", "topic": "runner1", "local": False}
    here.one("runner.create", context_id=context, runner=runner)
    done = 0
    while done < JOBS:
        asked = {"context_id": context, "runner_id": 1, "script_types": ["Python"], "count": BATCH, "wait": 10}
        taken = here.one("job.take", **asked)["jobs"]
        assert taken
        here.call(
            [
                {
                    "jsonrpc": "2.0",
                    "id": at,
                    "method": "job.finish",
                    "params": {
                        "context_id": context,
                        "caller_id": 7,
                        "id": one["job"]["id"],
                        "token": one["token"],
                        "result": {"exit_code": "0"},
                    },
                }
                for at, one in enumerate(taken)
            ]
        )
        done += len(taken)
        yield done


def mib(size: float) -> str:
    return f"{size / (1 << 20):,.0f} MiB"


def records(what: str, script: int) -> None:
    with measured() as here:
        here.one("context.create", context={"id": 1, "admins": [7], "readers": [], "executors": []})
        before = here.store_bytes(), here.disk(), here.resident(), here.seconds()
        most = 0
        for some in creates(1, script) if what == "created" else submits(1, script):
            here.call(some)
            most = max(most, here.disk())
        if what == "run":
            for _ in run_all(here, 1):
                most = max(most, here.disk())
        spent = [(now - then) / JOBS * 1e6 for now, then in zip(here.seconds(), before[3], strict=True)]
        store, disk, resident = here.store_bytes(), here.disk(), here.resident()
        print(
            f"| {what} | {script:,} | {mib(store - before[0])} | {mib(disk - before[1])} | {mib(most - before[1])} "
            f"| {mib(resident - before[2])} | {spent[0]:.0f} µs | {spent[1]:.0f} µs |",
            flush=True,
        )


def loads() -> None:
    with tempfile.TemporaryDirectory() as name, measured("--store-connections", "1100") as here:
        for what, *options in LOADS:
            report = Path(name) / "report.json"
            given = dict(zip(options[::2], options[1::2], strict=True))
            before, calls_before = here.seconds(), here.calls()
            command = [sys.executable, "-m", "coordinator", "bench", here.server.urls["ws"], *options]
            command += ["--seconds", "4", "--warm-up", "1", "--json", str(report)]
            subprocess.run(command, check=True, capture_output=True)
            calls = here.calls() - calls_before
            spent = [(now - then) / calls * 1e6 for now, then in zip(here.seconds(), before, strict=True)]
            rate = json.loads(report.read_text())["result"]["calls_per_s"]
            contexts = given.get("--contexts", "1")
            print(
                f"| {what} | {given['--connections']} × {given['--window']} | {int(contexts):,} "
                f"| {spent[0]:.0f} µs | {spent[1]:.0f} µs | {rate:,.0f} |",
                flush=True,
            )


def main() -> None:
    print(f"load average before: {os.getloadavg()[0]:.1f}")
    print("| jobs | script, bytes | store | disk | at most | coordinator | its core, a job | the store's core, a job |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for what in ("created", "run"):
        for script in (100, 1000, 10_000) if what == "created" else (100, 1000):
            records(what, script)
    print("\n| calls | connections × in flight | contexts | its core, a call | the store's core, a call | calls/s |")
    print("| --- | --- | --- | --- | --- | --- |")
    loads()


if __name__ == "__main__":
    main()
