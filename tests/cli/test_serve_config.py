"""A coordinator with a configuration file: SIGHUP, the drain, and what systemd hears of both."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.support.commands import herocoordinator
from tests.support.server import CoordinatorProcess, LoggingProcess, ValkeyProcess, coordinator, free_port, valkey

READ_AGAIN = "SIGHUP: the settings were read again"
STAY = "SIGHUP: the settings stay as they are"
WAIT = 30.0

pytestmark = pytest.mark.slow


class Systemd:
    """Listens as systemd does."""

    def __init__(self, path: Path) -> None:
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._end.bind(str(path))
        self._said: queue.Queue[str] = queue.Queue()
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while said := self._end.recv(4096):
            self._said.put(said.decode().partition("\n")[0])

    def wait_for(self, *states: str) -> None:
        """Until these are said, in this order."""
        for state in states:
            while self._said.get(timeout=WAIT) != state:
                pass

    def close(self) -> None:
        self._end.shutdown(socket.SHUT_RD)
        self._end.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    with contextlib.closing(Systemd(tmp_path / "notify")) as systemd:
        yield systemd


def status(server: CoordinatorProcess, host: str, *, path: str = "/healthz") -> int:
    return httpx.get(server.http + path, headers={"host": host}).status_code


def is_let_in(server: CoordinatorProcess, origin: str) -> bool:
    """On a WebSocket."""
    try:
        with connect(server.ws, origin=Origin(origin)):
            return True
    except InvalidStatus:
        return False


def until(condition: Callable[[], bool]) -> None:
    """A worker may hear of something a moment after the parent has logged it."""
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def hang_up(server: CoordinatorProcess, event: str) -> dict[str, object]:
    seen = len(server.logs)
    server.process.send_signal(signal.SIGHUP)
    return server.wait_for(event, after=seen)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_life_with_reload_and_drain(tmp_path: Path, systemd: Systemd, workers: int) -> None:
    file = tmp_path / "coordinator.toml"
    start = f"workers = {workers}\nallowed-hosts = 'before.example'\nallowed-origins = []\n"
    file.write_text(start)
    arguments = ("--config", str(file), "--data-dir", str(tmp_path / "data"), "--workers", str(workers))
    with coordinator(*arguments, env=systemd.environment) as server:
        systemd.wait_for("READY=1", "WATCHDOG=1")
        assert status(server, "before.example") == 200
        assert status(server, "after.example") == 403
        assert not is_let_in(server, "https://app.example")

        file.write_text(
            "allowed-hosts = ['after.example']\nallowed-origins = ['https://app.example']\n"
            "log-level = 'debug'\nmax-in-flight = 7\ndrain = 60\n"
        )
        said = hang_up(server, READ_AGAIN)

        systemd.wait_for("RELOADING=1", "READY=1", "WATCHDOG=1")
        assert said["changed"] == ["allowed-hosts", "allowed-origins", "drain", "log-level"]
        assert said["need_restart"] == ["max-in-flight"]
        until(lambda: status(server, "after.example") == 200 and status(server, "before.example") == 403)
        until(lambda: is_let_in(server, "https://app.example"))

        if workers > 1:  # a worker that is started now has them too
            for worker in server.workers():
                os.kill(worker, signal.SIGKILL)
            with contextlib.suppress(httpx.TransportError):
                status(server, "after.example")
            until(lambda: _is_served(server, "after.example"))

        file.write_text("allowed-host = 'evil.example'")
        assert f"{file}: allowed-host: there is no such setting" in str(hang_up(server, STAY)["reason"])
        assert status(server, "after.example") == 200
        file.write_text("max-in-flight = 7\nallowed-hosts = 'after.example'\ndrain = 60")
        assert hang_up(server, READ_AGAIN)["need_restart"] == ["max-in-flight"]  # it still does

        with connect(server.ws) as websocket:
            server.process.send_signal(signal.SIGTERM)
            systemd.wait_for("STOPPING=1")
            until(lambda: status(server, "after.example", path="/readyz") == 503)
            assert httpx.get(f"{server.http}/readyz").json()["reason"] == "the coordinator is about to stop"
            assert status(server, "after.example") == 200  # it serves on, also who comes now
            websocket.send('{"jsonrpc": "2.0", "id": 1, "method": "actor.load", "params": {"id": 1}}')
            assert "-32001" in str(websocket.recv(WAIT))

            server.process.send_signal(signal.SIGTERM)  # no more of that
            server.wait_for("stopped")
        assert server.process.wait(WAIT) == 0


def _is_served(server: CoordinatorProcess, host: str) -> bool:
    try:
        return status(server, host) == 200
    except httpx.TransportError:
        return False


def test_sigint_needs_no_drain(tmp_path: Path) -> None:
    with coordinator("--data-dir", str(tmp_path), "--drain", "600") as server:
        server.process.send_signal(signal.SIGINT)

        assert server.process.wait(WAIT) == 0


def test_the_drain_ends_by_itself(tmp_path: Path) -> None:
    with coordinator("--data-dir", str(tmp_path), "--drain", "0.3") as server:
        assert server.stop() == 0
        events = [entry["event"] for entry in server.logs]
        assert events.index("draining: not ready any more, and serving on") < events.index("stopping")


@contextlib.contextmanager
def flags(*arguments: str) -> Iterator[LoggingProcess]:
    """`herocoordinator` with flags and no command."""
    server = LoggingProcess(*arguments)
    try:
        yield server
    finally:
        server.stop()


def test_flags_without_a_command_serve_as_the_original_s_do(store: ValkeyProcess) -> None:
    http, ws = free_port(), free_port()
    place = ("--redis-addr", f"127.0.0.1:{store.port}", "--mycelium-ip", "127.0.0.1", "--mycelium-port", "8990")

    with flags(*place, "--api-http-port", str(http), "--api-ws-port", str(ws), "--log-format", "json") as server:
        assert server.wait_for("serving")["http"] == f"http://127.0.0.1:{http}"
        called = herocoordinator("call", "--url", f"ws://127.0.0.1:{ws}", "actor.load", "[1]")
        assert "-32001" in called.stderr
        assert any("--mycelium-ip" in entry["event"] for entry in server.logs)
    assert server.process.returncode == 0


def test_nor_do_they_need_a_command_when_a_password_is_moved_off_the_command_line(tmp_path: Path) -> None:
    with valkey(tmp_path, "--requirepass", "geheimwort") as own:
        url = f"redis://:geheimwort@127.0.0.1:{own.port}"
        env = ("--api-http-port", "0", "--api-ws-port", "0", "--log-format", "json", "--workers", "1")
        with flags(*env, f"--redis-url={url}") as server:
            server.wait_for("serving")
            assert "geheimwort" not in Path(f"/proc/{server.process.pid}/cmdline").read_text()


def test_what_is_no_flag_of_serve_is_none() -> None:
    done = herocoordinator("--nonsense")

    assert done.returncode == 2
    assert "serve [OPTIONS]" in done.stderr
    assert "--nonsense" in done.stderr
