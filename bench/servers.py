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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from websockets.sync.client import connect

from bench import calls, stacks
from bench.machine import Cores, descendants, pin, program, unverified
from coordinator.cli.cert import make_certificate

__all__ = ["BenchServer", "Coordinator", "ServerFailed", "coordinator", "peer", "stack"]

_START_TIMEOUT: Final = 60.0  # seconds
_STOP_TIMEOUT: Final = 30.0


class ServerFailed(Exception):
    """A server did not start, or complained."""


@dataclass(frozen=True, slots=True)
class BenchServer:
    """A running server.

    Attributes:
        urls: scheme → URL.
        processes: name → id of those that work for it: `server`, `worker 1`, … and its store, `valkey`, if it has one.
        tokens: of whoever measures, and before it of the operator; none if nobody logs in.
    """

    urls: dict[str, str]
    processes: dict[str, int]
    tokens: list[str] = field(default_factory=list, kw_only=True)

    @property
    def token(self) -> str:
        """What a call shows; '' for nothing."""
        return self.tokens[-1] if self.tokens else ""

    def post(self, body: bytes) -> Any:
        """The reply to a JSON-RPC message over HTTP; over WebSocket if it speaks nothing else."""
        if "http" not in self.urls:
            return self._exchange(body)
        shown = {"authorization": f"Bearer {self.token}"} if self.tokens else {}
        request = urllib.request.Request(self.urls["http"], body, {"content-type": "application/json", **shown})
        with urllib.request.urlopen(request, timeout=60, context=unverified()) as response:
            return json.load(response)

    def _exchange(self, message: bytes) -> Any:
        with connect(self.urls["ws"]) as socket:
            socket.send(message, text=True)
            return json.loads(socket.recv(timeout=60))

    def seed(self, contexts: range) -> None:
        """Create the jobs that calls ask for in these contexts."""
        if self.tokens:
            self._make_admin(contexts)
        for context in contexts:
            replies = self.post(calls.seeding(context))
            if not all("result" in reply for reply in replies):
                raise ServerFailed(f"cannot create the jobs: {replies[0]}")

    def _make_admin(self, contexts: range) -> None:
        """Go on as an admin of these contexts, rather than as the operator."""

        def call(method: str, **params: Any) -> Any:
            return self.post(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())

        call("actor.create", actor={"id": 1, "pubkey": "none", "address": []})
        for id in contexts:
            call("context.create", context={"id": id, "admins": [1], "readers": [], "executors": []})
        self.tokens.append(call("token.create", label="bench", principal="actor:1")["result"]["token"])


@dataclass(frozen=True, slots=True)
class Coordinator(BenchServer):
    """`herocoordinator serve` with its embedded Valkey, which listens on `store`."""

    store: Path

    def metric(self, name: str) -> float:
        """A value of its /metrics page."""
        page_url = f"{self.urls['http']}/metrics"
        with urllib.request.urlopen(page_url, timeout=60, context=unverified()) as response:
            page: str = response.read().decode()
        for line in page.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise ServerFailed(f"no metric {name}")


@contextmanager
def coordinator(
    cores: Cores,
    data_root: Path,
    *flags: str,
    workers: int = 1,
    may_warn: bool = False,
    is_tls: bool = False,
    has_logins: bool = False,
    is_audited: bool = False,
) -> Iterator[Coordinator]:
    """A coordinator on a data directory of its own below `data_root`, which is removed afterwards.

    One worker has the server's core; several have both. Errors in its log end the benchmark, and so do warnings unless
    it `may_warn`, of hostile clients for instance.
    """
    with tempfile.TemporaryDirectory(prefix="hc-bench-", dir=data_root) as directory:
        data = Path(directory, "data")
        log = Path(directory, "log")
        command = ["-m", "coordinator", "serve", "--api-http-port", "0", "--api-ws-port", "0", "--log-format", "json"]
        command += ["--auth", "keys"] if has_logins else []
        command += ["--audit-log", str(Path(directory, "audit.jsonl"))] if is_audited else []
        command += ["--workers", str(workers), *(_certificate(Path(directory)) if is_tls else ())]
        with log.open("wb") as stderr:
            process = subprocess.Popen([sys.executable, *command, "--data-dir", str(data), *flags], stderr=stderr)
        with _ended_after(process):
            serving = _wait_for_start(process, log)
            started = descendants(process.pid)
            (valkey,) = (pid for pid in started if program(pid).startswith("valkey"))
            others = [pid for pid in started if pid != valkey]
            pin([process.pid, *others], cores.server, cores.others if workers > 1 else None)
            pin([valkey], cores.others)
            try:
                yield Coordinator(
                    urls={"http": serving["http"], "ws": serving["ws"]},
                    processes={
                        "server": process.pid,
                        **{f"worker {number}": pid for number, pid in enumerate(others, 1)},
                        "valkey": valkey,
                    },
                    store=data / "valkey.sock",
                    tokens=[(data / "operator.token").read_text().strip()] if has_logins else [],
                )
            except Exception as error:
                raise ServerFailed(f"{error}; the log says: {_complaints(log) or 'nothing'}") from error
            if process.poll() is not None:
                raise ServerFailed(f"the coordinator ended with status {process.returncode}: {_complaints(log)}")
            complaints = "" if may_warn else _complaints(log)
        # What it does every few seconds may be under way when it is told to stop, and is then refused with a warning.
        complaints = complaints or _complaints(log, harmless=("warning", "info", "debug"))
        if complaints:
            raise ServerFailed(f"the coordinator complained: {complaints}")


def _certificate(directory: Path) -> list[str]:
    """Make one, with a key on P-256, and return the flags that have a coordinator use it."""
    made = make_certificate(("127.0.0.1",), days=1)
    certificate, key = directory / "cert.pem", directory / "key.pem"
    certificate.write_bytes(made.certificate)
    key.write_bytes(made.key)
    return ["--tls-cert", str(certificate), "--tls-key", str(key)]


@contextmanager
def peer(cores: Cores, name: str, canned_reply: bytes = b"") -> Iterator[BenchServer]:
    """One of bench.peers; those that answer with a canned reply answer with this one."""
    with tempfile.TemporaryDirectory(prefix="hc-bench-", ignore_cleanup_errors=True) as directory:
        command = [sys.executable, "-m", "bench.peers", name, directory]
        with _started(command, cores.server, canned_reply) as (process, url):
            processes = {"server": process.pid}
            for valkey in descendants(process.pid):
                pin([valkey], cores.others)
                processes["valkey"] = valkey
            yield BenchServer(urls={url.partition(":")[0]: url}, processes=processes)


@contextmanager
def stack(cores: Cores, data_root: Path, name: str, fsync: str) -> Iterator[BenchServer]:
    """One of bench.stacks on a Valkey of its own, which is set up as the coordinator's."""
    with tempfile.TemporaryDirectory(prefix="hc-bench-", dir=data_root, ignore_cleanup_errors=True) as directory:
        store = [sys.executable, "-m", "bench.peers", "valkey", directory, fsync]
        with _started(store, cores.others) as (keeper, socket):
            (valkey,) = descendants(keeper.pid)
            with _started(stacks.command(name, Path(socket)), cores.server) as (process, port):
                yield BenchServer(
                    urls={scheme: f"{scheme}://127.0.0.1:{port}" for scheme in stacks.schemes(name)},
                    processes={"server": process.pid, "valkey": valkey},
                )


@contextmanager
def _started(command: list[str], core: int | None, given: bytes = b"") -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A program that has printed its first line, and that line; `given` is its standard input."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with _ended_after(process):
        pin([process.pid], core)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(given)
        process.stdin.close()
        line = process.stdout.readline().decode().strip()
        if not line:
            raise ServerFailed(f"did not start: {' '.join(command)}")
        yield process, line


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


def _complaints(log: Path, harmless: tuple[str, ...] = ("info", "debug")) -> str:
    return "; ".join(json.dumps(entry) for entry in _entries(log) if entry.get("level") not in harmless)


def _wait_for_start(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    """The log entry that says where it listens."""
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        for entry in _entries(log):
            if entry["event"] == "serving":
                return entry
        time.sleep(0.02)
    raise ServerFailed(f"the coordinator does not start: {_complaints(log)}")
