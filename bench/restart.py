"""A coordinator is killed under runners with running attempts, and started again: how soon all are back, and what
somebody else notices of that.

`python -m bench.restart` prints the figures as one line of JSON. All runners come at once, as soon as it serves.
Whoever calls in another context meanwhile (`context.load` every 10 ms) is a process of its own; the runners' is at nice
10, for it is the server that is to be fair, not the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from pydantic_core import from_json, to_json

from bench.machine import cpu_seconds, descendants, program
from bench.servers import _entries, _wait_for_start

CONTEXT: Final = 1
VICTIMS_CONTEXT: Final = 2
VICTIMS_PACE: Final = 0.01  # seconds between its calls
QUIET: Final = 2.0  # seconds in which the victim is alone
AT_MOST: Final = 120.0  # seconds until all runners are back
NICENESS: Final = 10
LEASE: Final = 600.0
FLOW_JOBS: Final = 500
BUSY: Final = -32043
FLUSHED: Final = 1.5  # seconds, after which all is in the append-only file


class _Refused(Exception):
    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.code: int = error["code"]


class _Client(WSListener):
    """A connection that awaits its calls one by one, and hands assignments on."""

    def __init__(self) -> None:
        self._parts = bytearray()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._last_id = 0
        self.tokens: list[str] = []
        self.has_all = asyncio.Event()
        self.expected = 0
        self.transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ConnectionError("the connection ended"))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
            return
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        self._parts += frame.get_payload_as_bytes()
        if frame.fin:
            message = from_json(bytes(self._parts))
            self._parts.clear()
            for one in message if isinstance(message, list) else [message]:
                self._received(one)

    def _received(self, message: dict[str, Any]) -> None:
        if message.get("method") == "runner.job":
            self.tokens.append(message["params"]["token"])
            if len(self.tokens) == self.expected:
                self.has_all.set()
        elif "id" in message:
            answer = self._answers.pop(message["id"])
            if not answer.done():
                if "error" in message:
                    answer.set_exception(_Refused(message["error"]))
                else:
                    answer.set_result(message["result"])

    async def call(self, method: str, **params: Any) -> Any:
        self._last_id += 1
        answer = asyncio.get_running_loop().create_future()
        self._answers[self._last_id] = answer
        message = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}
        self.transport.send(WSMsgType.TEXT, to_json(message))
        return await answer


async def _connected(url: str) -> _Client:
    _, client = await ws_connect(_Client, url, max_frame_size=1 << 26)
    assert isinstance(client, _Client)
    return client


class _Server:
    """A coordinator on that directory, and its store."""

    def __init__(self, directory: Path, runners: int, number: int) -> None:
        self._log = directory / f"log-{number}"
        command = [sys.executable, "-m", "coordinator", "serve", "--data-dir", str(directory / "data")]
        command += ["--api-http-port", "0", "--api-ws-port", "0", "--workers", "1", "--log-format", "json"]
        command += ["--max-connections", str(runners + 200)]
        with self._log.open("wb") as stderr:
            self._process = subprocess.Popen(command, stderr=stderr)
        self.url: str = _wait_for_start(self._process, self._log)["ws"]
        (self._valkey,) = (pid for pid in descendants(self._process.pid) if program(pid).startswith("valkey"))
        self._before = self._seconds()

    def _seconds(self) -> tuple[float, float]:
        return cpu_seconds(self._process.pid), cpu_seconds(self._valkey)

    @property
    def pid(self) -> int:
        return self._process.pid

    def spent(self) -> tuple[float, float]:
        """Processor time since it serves: of the coordinator, of the store."""
        server, store = self._seconds()
        return server - self._before[0], store - self._before[1]

    def kill(self) -> None:
        for pid in (self._process.pid, self._valkey):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def complaints(self) -> dict[str, int]:
        """Events of its log that are no information, and how often."""
        found: dict[str, int] = {}
        for entry in _entries(self._log):
            if entry.get("level") not in ("info", "debug"):
                found[entry["event"]] = found.get(entry["event"], 0) + 1
        return found


@contextlib.contextmanager
def _serving(directory: Path, runners: int, number: int) -> Iterator[_Server]:
    server = _Server(directory, runners, number)
    try:
        yield server
    finally:
        server.kill()


def _submission(flow: int) -> dict[str, Any]:
    ids = range(flow * FLOW_JOBS, (flow + 1) * FLOW_JOBS)
    empty: dict[str, Any] = {"env_vars": {}, "prerequisites": [], "depends": []}
    common = {"caller_id": 7, "context_id": CONTEXT, "script_type": "Python", "timeout": 0, "retries": 0, **empty}
    jobs = [{"id": id, "script": f"print({id})", **common} for id in ids]
    fields = {"id": flow + 1, "caller_id": 7, "context_id": CONTEXT, "jobs": [*ids], "env_vars": {}}
    return {"context_id": CONTEXT, "flow": fields, "jobs": jobs}


def _subscription(runner: int, attempts: int) -> dict[str, Any]:
    identity = {"context_id": CONTEXT, "runner_id": runner, "session": f"session-{runner}"}
    return {**identity, "script_types": ["Python"], "capacity": attempts, "lease": LEASE}


async def _set_up(server: _Server, runners: int, attempts: int) -> list[list[str]]:
    """Have each runner take so many attempts, and kill the coordinator; the attempts' tokens, by runner."""
    url = server.url
    client = await _connected(url)
    for flow in range(-(-runners * attempts // FLOW_JOBS)):
        await client.call("flow.submit", **_submission(flow))
    victims = {"id": VICTIMS_CONTEXT, "admins": [], "readers": [], "executors": []}
    await client.call("context.create", context=victims)
    places = asyncio.Semaphore(50)

    async def one(runner: int) -> _Client:
        async with places:
            mine = await _connected(url)
            mine.expected = attempts
            record = {"id": runner, "pubkey": "", "address": "127.0.0.1", "topic": f"runner{runner}", "local": True}
            await mine.call("runner.create", context_id=CONTEXT, runner=record)
            await mine.call("runner.subscribe", **_subscription(runner, attempts))
            await mine.has_all.wait()
            return mine

    held = [mine.tokens for mine in await asyncio.gather(*map(one, range(runners)))]
    await asyncio.sleep(FLUSHED)
    server.kill()
    return held


async def _come_back(url: str, held: list[list[str]], told: Callable[[str], None]) -> list[_Client]:
    """All runners subscribe again, each with the attempts it works on."""

    async def one(runner: int, tokens: list[str]) -> _Client:
        while True:
            try:
                mine = await _connected(url)
                break
            except OSError:
                told("not connected")
                await asyncio.sleep(0.2)
        while True:
            try:
                answer = await mine.call("runner.subscribe", **_subscription(runner, len(tokens)), holding=tokens)
            except _Refused as refused:
                if refused.code != BUSY:
                    raise
                told("busy")
                await asyncio.sleep(0.2)
            else:
                for _ in answer["lost"]:
                    told("lost")
                told("back")
                return mine

    return await asyncio.gather(*(one(runner, tokens) for runner, tokens in enumerate(held)))


async def _victim(url: str) -> None:
    """Call until standard input ends; each line of it begins another time, whose latencies are printed at its end."""
    client = await _connected(url)
    latencies: list[float] = []
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def calls() -> None:
        while True:
            began = time.perf_counter()
            await client.call("context.load", id=VICTIMS_CONTEXT)
            latencies.append(time.perf_counter() - began)
            await asyncio.sleep(VICTIMS_PACE)

    calling = asyncio.create_task(calls())
    while await reader.readline():
        click.echo(json.dumps(latencies))
        latencies.clear()
    calling.cancel()


def _percentiles(latencies: list[float]) -> dict[str, float]:
    ordered = sorted(latencies)
    at = {"p50_ms": len(ordered) // 2, "p99_ms": len(ordered) * 99 // 100, "max_ms": len(ordered) - 1}
    return {name: round(ordered[place] * 1000, 1) for name, place in at.items()} | {"calls": len(ordered)}


def _measured(server: _Server, held: list[list[str]]) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.restart", "--victim-of", server.url]
    victim = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert victim.stdin is not None
    assert victim.stdout is not None

    def latencies() -> list[float]:
        assert victim.stdin is not None
        assert victim.stdout is not None
        victim.stdin.write(b"\n")
        victim.stdin.flush()
        found: list[float] = json.loads(victim.stdout.readline())
        return found

    latencies()  # since it has started
    time.sleep(QUIET)
    quiet = latencies()
    counts: dict[str, int] = {}
    ends: list[float] = []

    def told(what: str) -> None:
        counts[what] = counts.get(what, 0) + 1
        if what == "back":
            ends.append(time.perf_counter())

    async def come_back() -> list[float]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AT_MOST):
                await _come_back(server.url, held, told)
        return await asyncio.to_thread(latencies)

    os.nice(NICENESS)  # of this process, the runners'
    before = server.spent()
    began = time.perf_counter()
    beside = asyncio.run(come_back())
    spent = [round(now - then, 2) for now, then in zip(server.spent(), before, strict=True)]
    victim.stdin.close()
    victim.wait()
    return {
        "runners": len(held),
        "attempts": sum(map(len, held)),
        **counts,
        "half_s": round(ends[len(ends) // 2] - began, 2),
        "all_s": round(ends[-1] - began, 2),
        "victim_quiet": _percentiles(quiet),
        "victim": _percentiles(beside),
        "coordinator_cpu_s": spent[0],
        "store_cpu_s": spent[1],
        "complaints": server.complaints(),
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--runners", default=2000, show_default=True, type=click.IntRange(1))
@click.option("--attempts", default=10, show_default=True, type=click.IntRange(1), help="Running at each.")
@click.option("--victim-of", hidden=True, help="Be the one in another context, of the coordinator at this URL.")
@click.option("--profiler", hidden=True, help="A command that is given the id of the process that serves.")
def main(*, runners: int, attempts: int, victim_of: str | None, profiler: str | None) -> None:
    """Kill a coordinator under RUNNERS with ATTEMPTS each, and see how soon all are back. About a minute."""
    if victim_of:
        asyncio.run(_victim(victim_of))
        return
    with tempfile.TemporaryDirectory(prefix="hc-bench-") as name:
        directory = Path(name)
        with _serving(directory, runners, 1) as server:
            held = asyncio.run(_set_up(server, runners, attempts))
        with _serving(directory, runners, 2) as server:
            watching = subprocess.Popen([*profiler.split(), str(server.pid)]) if profiler else None
            figures = _measured(server, held)
            if watching:
                watching.send_signal(signal.SIGINT)
                watching.wait()
    click.echo(json.dumps(figures))


if __name__ == "__main__":
    main(prog_name="python -m bench.restart")
