"""The least that calls in many contexts cost: `python -m bench.floor [CONNECTIONS]`.

Each call in a context of its own is a write to that context's connection and a read from it, however little is done
beside. A bare loop does just that: it sends one HGETALL on each of so many connections to a Valkey, waits with epoll,
reads and parses each reply. Then it does the same on one connection, 64 at a time, as calls of one context travel. What
it prints is microseconds of this process's processor time a call, the median of the rounds, which take turns.
"""

from __future__ import annotations

import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Final

import hiredis

from bench.machine import Cores, pin
from coordinator.storage.connection import packed

ROUNDS: Final = 15
CALLS: Final = 20_000  # a round
TOGETHER: Final = 64
FIELDS: Final = [str(word) for number in range(12) for word in (f"field{number}", f"value {number}")]
ASK: Final = packed([("HGETALL", "job")])


def _connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    connection.setblocking(False)
    return connection


def _many(connections: list[socket.socket]) -> None:
    """One call on each, and the next on whichever has answered."""
    readers = {one.fileno(): hiredis.Reader() for one in connections}
    by_number = {one.fileno(): one for one in connections}
    with select.epoll() as epoll:
        for one in connections:
            epoll.register(one, select.EPOLLIN | select.EPOLLET)
            one.send(ASK)
        to_send, to_receive = CALLS - len(connections), CALLS
        while to_receive:
            for number, _ in epoll.poll():
                reader, one = readers[number], by_number[number]
                reader.feed(one.recv(65536))
                while reader.gets() is not False:
                    to_receive -= 1
                    if to_send > 0:
                        to_send -= 1
                        one.send(ASK)


def _single(connection: socket.socket) -> None:
    """The same number of calls on one."""
    reader, waiting = hiredis.Reader(), select.poll()
    waiting.register(connection, select.POLLIN)
    for _ in range(CALLS // TOGETHER):
        connection.send(ASK * TOGETHER)
        missing = TOGETHER
        while missing:
            waiting.poll()
            reader.feed(connection.recv(65536))
            while reader.gets() is not False:
                missing -= 1


def _took(run: Callable[[], None]) -> float:
    """Microseconds of processor time a call."""
    before = time.process_time()
    run()
    return (time.process_time() - before) / CALLS * 1e6


def main(count: int) -> None:
    cores = Cores.choose()
    with tempfile.TemporaryDirectory(prefix="hc-floor-") as directory:
        command = [sys.executable, "-m", "bench.peers", "valkey", directory, "everysec"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as store:
            try:
                assert store.stdout is not None
                path = store.stdout.readline().strip()
                pin([store.pid], cores.others)
                connections = [_connected(path) for _ in range(count)]
                pin([os.getpid()], cores.server)
                connections[0].setblocking(True)
                connections[0].sendall(packed([("HSET", "job", *FIELDS)]))
                connections[0].recv(100)
                connections[0].setblocking(False)
                many, single = [], []
                for _ in range(ROUNDS):
                    many.append(_took(lambda: _many(connections)))
                    single.append(_took(lambda: _single(connections[0])))
                for one in connections:
                    one.close()
            finally:
                store.terminate()
    print(f"{count:,} connections, a call each: {statistics.median(many):.1f} µs a call")
    print(f"one connection, {TOGETHER} calls together: {statistics.median(single):.1f} µs a call")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
