"""What records take of memory and disk, and calls of processor time: the tables of docs/operations/sizing.md.

`python -m bench.sizing` prints them as Markdown. They count bytes and processor time, which other users of the machine
change little; the rates beside them are only of the machine as it was then.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from secrets import token_urlsafe
from typing import Any, Final

from bench.machine import cpu_seconds, resident_bytes
from tests.support.server import CoordinatorProcess, coordinator

JOBS: Final = 100_000
BATCH: Final = 500
FLAGS: Final = ("--workers", "1", "--max-body-bytes", str(16 << 20), "--max-batch-reply-bytes", str(64 << 20))

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
    """A coordinator of one process, and the store that it has started."""

    def __init__(self, server: CoordinatorProcess, data: Path) -> None:
        self.server, self.data = server, data
        self.http = http.client.HTTPConnection(server.http.rpartition("//")[2], timeout=120)
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        (self.store,) = [int(pid) for pid in children if "valkey" in Path(f"/proc/{pid}/comm").read_text()]

    def call(self, messages: Any) -> Any:
        self.http.request("POST", "/", json.dumps(messages), {"content-type": "application/json"})
        told = json.loads(self.http.getresponse().read())
        failed = [one for one in (told if isinstance(told, list) else [told]) if "error" in one]
        assert not failed, failed[0]
        return told

    def one(self, method: str, **params: Any) -> Any:
        return self.call({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})["result"]

    def store_bytes(self) -> int:
        """What the store's data takes, as it says itself."""
        time.sleep(4)  # it is asked every two seconds at most
        self.http.request("GET", "/metrics")
        page = self.http.getresponse().read().decode()
        found = re.search(r"^herocoordinator_store_memory_bytes (\S+)$", page, re.M)
        assert found
        return int(float(found[1]))

    def resident(self) -> int:
        return resident_bytes(self.server.process.pid)

    def disk(self) -> int:
        return sum(size_of(path) for path in (self.data / "appendonlydir").iterdir())

    def seconds(self) -> tuple[float, float]:
        """Processor time: of the coordinator, of the store."""
        return cpu_seconds(self.server.process.pid), cpu_seconds(self.store)


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a rewrite has just removed it
        return 0


def job(context: int, id: int, script: int) -> dict[str, Any]:
    return {
        "id": id,
        "caller_id": 7,
        "context_id": context,
        "script": token_urlsafe(script)[:script],  # which cannot be compressed
        "script_type": "Python",
        "timeout": 60,
        "retries": 0,
        "env_vars": {},
        "prerequisites": [],
        "depends": [],
    }


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


def run_all(measured: Measured, context: int) -> Iterator[int]:
    """Have a runner finish all that waits, each job with a small result; yields how many are done."""
    runner = {"id": 1, "pubkey": "", "address": "127.0.0.1", "topic": "runner1", "local": False}
    measured.one("runner.create", context_id=context, runner=runner)
    done = 0
    while done < JOBS:
        asked = {"context_id": context, "runner_id": 1, "script_types": ["Python"], "count": BATCH, "wait": 10}
        taken = measured.one("job.take", **asked)["jobs"]
        assert taken
        measured.call(
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
    with (
        tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DATA")) as name,
        coordinator("--data-dir", name, *FLAGS) as server,
    ):
        measured = Measured(server, Path(name))
        measured.one("context.create", context={"id": 1, "admins": [7], "readers": [], "executors": []})
        before = measured.store_bytes(), measured.disk(), measured.resident(), measured.seconds()
        most = 0
        for messages in creates(1, script) if what == "created" else submits(1, script):
            measured.call(messages)
            most = max(most, measured.disk())
        if what == "run":
            for _ in run_all(measured, 1):
                most = max(most, measured.disk())
        spent = [(now - then) / JOBS * 1e6 for now, then in zip(measured.seconds(), before[3], strict=True)]
        store, disk, resident = measured.store_bytes(), measured.disk(), measured.resident()
        print(
            f"| {what} | {script:,} | {mib(store - before[0])} | {mib(disk - before[1])} | {mib(most - before[1])} "
            f"| {mib(resident - before[2])} | {spent[0]:.0f} µs | {spent[1]:.0f} µs |",
            flush=True,
        )


def loads() -> None:
    with (
        tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DATA")) as name,
        coordinator("--data-dir", name, *FLAGS, "--store-connections", "1100") as server,
    ):
        measured = Measured(server, Path(name))
        for what, *options in LOADS:
            report = Path(name) / "report.json"
            given = dict(zip(options[::2], options[1::2], strict=True))
            before, calls_before = measured.seconds(), counted(measured)
            command = [sys.executable, "-m", "coordinator", "bench", server.ws, *options]
            command += ["--seconds", "4", "--warm-up", "1", "--json", str(report)]
            subprocess.run(command, check=True, capture_output=True)
            calls = counted(measured) - calls_before
            spent = [(now - then) / calls * 1e6 for now, then in zip(measured.seconds(), before, strict=True)]
            rate = json.loads(report.read_text())["result"]["calls_per_s"]
            contexts = given.get("--contexts", "1")
            print(
                f"| {what} | {given['--connections']} × {given['--window']} | {int(contexts):,} "
                f"| {spent[0]:.0f} µs | {spent[1]:.0f} µs | {rate:,.0f} |",
                flush=True,
            )


def counted(measured: Measured) -> int:
    measured.http.request("GET", "/metrics")
    found = re.search(r"^herocoordinator_calls_total (\S+)$", measured.http.getresponse().read().decode(), re.M)
    assert found
    return int(float(found[1]))


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
