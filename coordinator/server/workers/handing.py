"""A worker as the parent knows it, and the clients' connections on their way from the one to the other."""

from __future__ import annotations

import select
import socket
import subprocess
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import trio
from prometheus_client.core import Metric

from coordinator.accepting import LastingListener
from coordinator.server.bootstrap import FRONT_ENDS, FrontEnd, new_name
from coordinator.server.descriptors import HANDOVERS
from coordinator.server.workers.channel import Clients, ParentChannel

__all__ = ["Gated", "HeldClient", "InFlight", "Worker"]

UNRESPONSIVE: Final = 1.0  # seconds a connection may wait to be accepted before its worker gets no others


class InFlight:
    """A connection on its way to a worker.

    Attributes:
        number: of its HandOver.
        since: when it was sent, on trio's clock.
        settled: set when the worker has accepted it, or will not any more: `is_accepted`.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.since = trio.current_time()
        self.settled = trio.Event()
        self.is_accepted = False

    def settle(self, *, is_accepted: bool) -> None:
        self.is_accepted = is_accepted
        self.settled.set()


class Worker:
    """One worker process as the parent knows it.

    Attributes:
        handed_over: connections it was sent so far, and `clients` what has become of them as far as it has told.
        in_flight: those it has not accepted yet, oldest first: they may still go to another.
        last_number: of the last connection that it was sent.
        is_short: it had no descriptor for a connection a moment ago.
        families: its metrics as last reported.
        reported: set when they next are.
        failure: why it cannot serve, if it said so.
        silent: how often the parent has looked for a sign of life since there was one.
        stacks: of its Serving.
    """

    def __init__(
        self, number: int, process: subprocess.Popen[bytes], channel: ParentChannel, max_connections: int
    ) -> None:
        self.number = number
        self.name = new_name()
        self.process = process
        self.channel = channel
        self.max_connections = max_connections
        self.is_serving = False
        self.is_leaving = False
        self.is_short = False
        self.handed_over = dict.fromkeys(FRONT_ENDS, 0)
        self.clients = Clients(dict.fromkeys(FRONT_ENDS, 0), dict.fromkeys(FRONT_ENDS, 0))
        self.in_flight: dict[FrontEnd, deque[InFlight]] = {name: deque() for name in FRONT_ENDS}
        self.last_number = 0
        self.families: list[Metric] = []
        self.is_asked = False
        self.reported = trio.Event()
        self.failure: str | None = None
        self.silent = 0
        self.stacks: int | None = None

    def room(self, front_end: FrontEnd) -> int:
        """Connections it may still be sent."""
        return self.max_connections - (self.handed_over[front_end] - self.clients.ended[front_end])

    @property
    def accepts(self) -> bool:
        in_flight = sum(map(len, self.in_flight.values()))
        return self.is_serving and not self.is_leaving and not self.is_short and in_flight < HANDOVERS

    def is_responsive(self, now: float) -> bool:
        return all(not waiting or now - waiting[0].since < UNRESPONSIVE for waiting in self.in_flight.values())

    def expect(self, front_end: FrontEnd, number: int) -> InFlight:
        """It is about to be sent the connection of this number."""
        in_flight = InFlight(number)
        self.handed_over[front_end] += 1
        self.in_flight[front_end].append(in_flight)
        self.last_number = number
        return in_flight

    def learn(self, clients: Clients) -> None:
        """It has told of its clients."""
        for name in FRONT_ENDS:
            for _ in range(clients.accepted[name] - self.clients.accepted[name]):
                self.in_flight[name].popleft().settle(is_accepted=True)
        self.clients = clients

    def not_received(self, front_end: FrontEnd, number: int) -> None:
        """The connection of this number never came to it."""
        waiting = self.in_flight[front_end]
        for in_flight in [*waiting]:
            if in_flight.number == number:
                waiting.remove(in_flight)
                self.handed_over[front_end] -= 1
                in_flight.settle(is_accepted=False)

    def reports(self, families: list[Metric]) -> None:
        self.families = families
        self.is_asked = False
        self.reported.set()
        self.reported = trio.Event()

    def withdraw(self) -> None:
        """It accepts none of the connections any more that are on their way."""
        for waiting in self.in_flight.values():
            while waiting:
                waiting.popleft().settle(is_accepted=False)


class HeldClient:
    """A connection the parent has accepted, and closes when a worker has it or `scope` is cancelled.

    Args:
        deadline: on trio's clock; no client waits longer for a worker.
    """

    def __init__(self, connection: trio.socket.SocketType, deadline: float) -> None:
        self.deadline = deadline
        self.scope = trio.CancelScope()
        self._connection = connection

    def has_left(self) -> bool:
        """Whether the client has closed its end, having sent nothing, or broken the connection.

        One that has closed its end behind a request may be waiting for the answer, so it has not left.
        """
        # A worker may share this socket by now, and an epoll would go on watching it when our copy is closed.
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            return True
        view = socket.socket(fileno=self._connection.fileno())
        try:
            return not view.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            view.detach()


class Gated(LastingListener):
    """One that leaves connections to the kernel's queue while there is nobody to give them to."""

    def __init__(self, listener: trio.SocketListener, gate: Callable[[], Awaitable[None]], stop: trio.Event) -> None:
        super().__init__(listener, stop)
        self._gate = gate

    async def accept(self) -> trio.SocketStream:
        await self._gate()
        return await super().accept()
