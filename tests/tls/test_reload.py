"""SIGHUP: the certificate is read again, and nobody is disconnected."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.server import CoordinatorProcess, coordinator
from tests.support.tls import Files
from tests.tls.test_clients import CALL, NOT_FOUND, post, shaken

pytestmark = pytest.mark.slow

READ_AGAIN = "SIGHUP: the certificate was read again"
IN_ITS_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # standard input becomes the terminal whose end the kernel tells of
os.execv(sys.executable, [sys.executable, "-m", "coordinator", *sys.argv[1:]])
"""
STAYS = "SIGHUP: the certificate stays as it is"


def hang_up(server: CoordinatorProcess, event: str) -> dict[str, object]:
    """Send SIGHUP and wait for what the log says of it."""
    seen = len(server.logs)
    server.process.send_signal(signal.SIGHUP)
    return server.wait_for(event, after=seen)


def serials(server: CoordinatorProcess, files: Files, count: int = 4) -> set[object]:
    """The serial numbers of what new connections to both ports get; enough connections for every worker."""
    found: set[object] = set()
    for url in (server.http, server.ws):
        for _ in range(count):
            with shaken(url, files.trust()) as connection:
                shown = connection.getpeercert()
                assert shown is not None
                found.add(shown["serialNumber"])
    return found


def wait_for_serial(server: CoordinatorProcess, files: Files, serial: str) -> None:
    """A worker may learn of a certificate a moment after the parent has logged it."""
    deadline = time.monotonic() + 30
    while serials(server, files) != {serial}:
        assert time.monotonic() < deadline


def answers(websocket: ClientConnection) -> bool:
    websocket.send(CALL)
    return bool(json.loads(websocket.recv(30))["error"]["code"] == NOT_FOUND)


def test_new_connections_get_the_new_certificate_and_old_ones_go_on(own: CoordinatorProcess, files: Files) -> None:
    before = files.serial
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(connect(own.ws, ssl=files.trust())) for _ in range(4)]
        kept_alive = [stack.enter_context(shaken(own.http, files.trust())) for _ in range(4)]
        kept = httpx.Limits(keepalive_expiry=None)  # by itself httpx gives a connection up after 5 s
        pooled = stack.enter_context(httpx.Client(verify=files.trust(), http2=True, limits=kept))
        pooled.get(f"{own.http}/healthz")
        assert serials(own, files) == {before}

        after = files.renew()
        hang_up(own, READ_AGAIN)
        wait_for_serial(own, files, after)

        assert after != before
        assert all(answers(websocket) for websocket in sockets)
        assert all(b" 200 " in post(connection) for connection in kept_alive)
        answer = pooled.get(f"{own.http}/healthz")
        assert answer.status_code == 200
        stream = answer.extensions["network_stream"].get_extra_info("ssl_object")
        assert stream.getpeercert()["serialNumber"] == before


def test_a_bad_certificate_changes_nothing_and_is_named_in_one_line(own: CoordinatorProcess, files: Files) -> None:
    before = files.serial
    good = files.certificate.read_bytes()
    try:
        files.certificate.write_text("no certificate")
        said = hang_up(own, STAYS)

        assert "exception" not in said
        assert str(files.certificate) in str(said["reason"])
        assert "--tls-cert" in str(said["reason"])
        assert serials_of_good(own, files) == {before}

        # Nor does a worker that is started now depend on what the file holds.
        for worker in own.workers():
            os.kill(worker, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                assert serials_of_good(own, files) == {before}
                break
        else:
            raise AssertionError("nobody serves")
    finally:
        files.certificate.write_bytes(good)
    hang_up(own, READ_AGAIN)


def serials_of_good(server: CoordinatorProcess, files: Files) -> set[object]:
    return serials(server, files, count=3)


def test_without_tls_it_changes_nothing(tmp_path: Path) -> None:
    for workers in ("1", "2"):
        with coordinator("--workers", workers, "--data-dir", str(tmp_path)) as server:
            with connect(server.ws) as websocket:
                hang_up(server, "SIGHUP: there is no certificate to read again, see --tls-cert")
                for worker in server.workers():
                    os.kill(worker, signal.SIGHUP)
                assert answers(websocket)
            assert server.stop() == 0


def test_when_its_terminal_is_closed_it_stops(tmp_path: Path) -> None:
    ours, terminal = pty.openpty()
    arguments = ["serve", "--api-http-port", "0", "--api-ws-port", "0", "--workers", "1", "--data-dir", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-c", IN_ITS_TERMINAL, *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    try:
        os.close(terminal)
        shown = b""
        while b"serving" not in shown:
            shown += os.read(ours, 4096)
        os.close(ours)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
