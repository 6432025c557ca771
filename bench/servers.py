"""Starts each server as a child process, pinned, and knows its URLs and process ids."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench import calls
from bench.machine import Cores, children, is_valkey, pin

__all__ = ["BenchServer", "Coordinator", "ServerFailed", "coordinator", "peer"]

_START_TIMEOUT: Final = 30.0  # seconds
_STOP_TIMEOUT: Final = 30.0


class ServerFailed(Exception):
    """A server did not start, or complained."""


@dataclass(frozen=True, slots=True)
class BenchServer:
    """A running server.

    Attributes:
        urls: scheme → URL.
        processes: name → ids of those that work for it; the first, `server`, are its own.
    """

    urls: dict[str, str]
    processes: dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Coordinator(BenchServer):
    """`herocoordinator serve` with its embedded Valkey, which listens on `store`."""

    store: Path

    def post(self, body: bytes) -> Any:
        """The reply to a JSON-RPC message over HTTP."""
        request = urllib.request.Request(self.urls["http"], body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def metric(self, name: str) -> float:
        """A value of its /metrics page."""
        with urllib.request.urlopen(f"{self.urls['http']}/metrics", timeout=60) as response:
            page: str = response.read().decode()
        for line in page.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise ServerFailed(f"no metric {name}")

    def seed(self, contexts: int) -> None:
        """Create the jobs that calls ask for, in contexts 1 to this."""
        for context in range(1, contexts + 1):
            replies = self.post(calls.seeding(context))
            if not all("result" in reply for reply in replies):
                raise ServerFailed(f"cannot create the jobs: {replies[0]}")


@contextmanager
def coordinator(cores: Cores, data_root: Path, *flags: str, workers: int = 1) -> Iterator[Coordinator]:
    """A coordinator on a data directory of its own below `data_root`, which is removed afterwards.

    Of one process, it has a core of its own; of several, each runs where the system puts it.
    """
    with tempfile.TemporaryDirectory(prefix="hc-bench-", dir=data_root) as directory:
        data = Path(directory, "data")
        log = Path(directory, "log")
        command = ["-m", "coordinator", "serve", "--api-http-port", "0", "--api-ws-port", "0", "--log-format", "json"]
        command += ["--workers", str(workers)]
        with log.open("wb") as stderr:
            process = subprocess.Popen([sys.executable, *command, "--data-dir", str(data), *flags], stderr=stderr)
        with _ended_after(process):
            serving = _wait_for_start(process, log)
            (valkey,) = (child for child in children(process.pid) if is_valkey(child))
            own = [process.pid, *(child for child in children(process.pid) if child != valkey)]
            if workers == 1:
                pin(cores.server, own)
                pin(cores.others, [valkey])
            try:
                yield Coordinator(
                    urls={"http": serving["http"], "ws": serving["ws"]},
                    processes={"server": own, "valkey": [valkey]},
                    store=data / "valkey.sock",
                )
            except Exception as error:
                raise ServerFailed(f"{error}; the log says: {_complaints(log) or 'nothing'}") from error
            if process.poll() is not None:
                raise ServerFailed(f"the coordinator ended with status {process.returncode}: {_complaints(log)}")
        complaints = _complaints(log)
        if complaints:
            raise ServerFailed(f"the coordinator complained: {complaints}")


@contextmanager
def peer(cores: Cores, name: str, canned_reply: bytes = b"") -> Iterator[BenchServer]:
    """One of bench.peers; those that answer with a canned reply answer with this one."""
    with tempfile.TemporaryDirectory(prefix="hc-bench-", ignore_cleanup_errors=True) as directory:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.peers", name, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with _ended_after(process):
            pin(cores.server, [process.pid])
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(canned_reply)
            process.stdin.close()
            url = process.stdout.readline().decode().strip()
            if not url:
                raise ServerFailed(f"the peer {name} did not start")
            processes = {"server": [process.pid]}
            if valkeys := children(process.pid):
                pin(cores.others, valkeys)
                processes["valkey"] = valkeys
            yield BenchServer(urls={url.partition(":")[0]: url}, processes=processes)


@contextmanager
def _ended_after(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Terminate the process in the end, by force if it must be."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _entries(log: Path) -> list[dict[str, Any]]:
    """The complete lines of a log; one that is no JSON is an entry of its own kind."""
    entries = []
    for line in log.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            try:
                entries.append(json.loads(line))
            except ValueError:
                entries.append({"event": line.strip(), "level": "error"})
    return entries


def _complaints(log: Path) -> str:
    return "; ".join(json.dumps(entry) for entry in _entries(log) if entry.get("level") not in ("info", "debug"))


def _wait_for_start(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    """The log entry that says where it listens."""
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        for entry in _entries(log):
            if entry["event"] == "serving":
                return entry
        time.sleep(0.02)
    raise ServerFailed(f"the coordinator does not start: {_complaints(log)}")
