"""What systemd is told, by a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from coordinator.server.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@herocoordinator-test-{os.getpid()}"


@pytest.fixture
def listening(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind("\0" + address[1:] if address.startswith("@") else address)
        end.settimeout(10)
        yield end


def test_each_state_is_one_datagram(listening: socket.socket, address: str) -> None:
    environment = {"NOTIFY_SOCKET": address, "OTHER": "x"}
    notifier = Notifier(environment)

    notifier.ready()
    assert listening.recv(4096).split(b"\n")[0] == b"READY=1"
    notifier.reloading()
    reloading, clock = listening.recv(4096).split(b"\n")
    assert reloading == b"RELOADING=1"
    assert clock.startswith(b"MONOTONIC_USEC=")
    assert clock.partition(b"=")[2].isdigit()
    notifier.stopping("draining")
    assert listening.recv(4096) == b"STOPPING=1\nSTATUS=draining"
    assert environment == {"OTHER": "x"}  # nothing of it reaches our children


@pytest.mark.anyio
async def test_it_says_that_it_is_alive_twice_as_often_as_it_must(
    listening: socket.socket, address: str, autojump: None
) -> None:
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier(environment)

    with trio.move_on_after(14):
        await notifier.say_alive()

    listening.setblocking(False)
    assert [listening.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    with pytest.raises(BlockingIOError):
        listening.recv(4096)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "10"},
        {"NOTIFY_SOCKET": "/nowhere"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "10", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "no"},
        {"NOTIFY_SOCKET": "/" + "n" * 200},
        {"NOTIFY_SOCKET": "\0"},
    ],
)
async def test_nobody_to_tell_is_no_fault(environment: dict[str, str]) -> None:
    notifier = Notifier(environment)

    notifier.ready()
    with trio.fail_after(5):
        await notifier.say_alive()
