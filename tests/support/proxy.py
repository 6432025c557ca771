"""A TCP proxy in front of a real Valkey that causes faults: it cuts, refuses, stalls, trickles, is slow, stops in the
middle of a reply, and delivers what it was sent long after its sender has gone. Optionally it speaks TLS to its
clients, for a Valkey that cannot."""

from __future__ import annotations

import enum
import math
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

__all__ = ["Proxy", "Side", "proxied"]

_CHUNK: Final = 64 * 1024
_ABORTIVE_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close sends RST


class Side(enum.Enum):
    """A direction of flow."""

    TO_STORE = "to store"
    TO_CLIENT = "to client"


class Proxy:
    """Passes everything until told otherwise; each fault lasts until `pass_all` unless it says it is over at once.

    Attributes:
        accepted: connections taken so far.
        forwarded: bytes passed on so far, by direction.
        kept: bytes for the store that were held back so far, delivered or not.
    """

    def __init__(self, store_port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self.accepted = 0
        self.forwarded = dict.fromkeys(Side, 0)
        self.kept = 0
        self._store_port = store_port
        self._tls = tls
        self._open: dict[trio.CancelScope, trio.SocketStream] = {}
        self._flowing = {side: _opened() for side in Side}
        self._left = dict.fromkeys(Side, math.inf)  # bytes until a connection is cut, by direction
        self._left_each = dict.fromkeys(Side, math.inf)  # the same, for every connection anew
        self._piece = _CHUNK
        self._rates = dict.fromkeys(Side, math.inf)
        self._rejecting = False
        self._ports: dict[trio.CancelScope, int] = {}  # of connections to the store
        self._held: dict[trio.CancelScope, trio.Event] = {}  # connections held back, until when
        self._listening = trio.CancelScope()
        self._wanted = _opened()  # to listen
        self._is_listening = trio.Event()
        self._changed = trio.Event()

    @property
    def url(self) -> str:
        return f"{'rediss' if self._tls else 'redis'}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """Connections open at this moment."""
        return len(self._open)

    @property
    def held(self) -> int:
        """Connections held back at this moment."""
        return len(self._held)

    # -- faults

    def cut(self, *, reset: bool = False) -> int:
        """Close every open connection, once; returns how many there were. With `reset` clients see RST, not FIN."""
        count = len(self._open)
        for scope, stream in self._open.items():
            if reset:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORTIVE_CLOSE)
            scope.cancel()
        return count

    def cut_after(self, count: int, side: Side = Side.TO_CLIENT) -> None:
        """Close the connection that carries the `count`-th byte from now in this direction, right after it. Once."""
        self._left[side] = count

    def cut_each_after(self, count: int, side: Side = Side.TO_CLIENT) -> None:
        """Close every new connection after it carried `count` bytes in this direction."""
        self._left_each[side] = count

    def stall(self, *sides: Side) -> None:
        """Pass nothing on in these directions, or in both; connections stay open and new ones are taken."""
        for side in sides or Side:
            self._flowing[side] = trio.Event()

    def hold_back(self, ports: Collection[int] | None = None) -> None:
        """Keep what is sent to the store on the connections that are open now until `deliver` is called, although their
        senders may have closed them by then, and drop what the store says. New ones are not concerned. `ports`: only on
        those which the store sees come from one of these."""
        for scope in self._open:
            if ports is None or self._ports.get(scope) in ports:
                self._held.setdefault(scope, trio.Event())

    def deliver(self) -> None:
        """Bring the store what was held back, and close those connections."""
        for event in self._held.values():
            event.set()

    def trickle(self, piece: int) -> None:
        """Pass on `piece` bytes at a time, each as a segment of its own."""
        self._piece = piece

    def slow_down(self, side: Side, rate: float) -> None:
        """Pass on no more than so many bytes a second in this direction, on each connection."""
        self._rates[side] = rate

    def reject(self) -> None:
        """Close the open connections, and every new one as soon as it is taken."""
        self._rejecting = True
        self.cut()

    async def refuse(self) -> None:
        """Close the open connections and the port: connecting is refused."""
        self._wanted = trio.Event()
        self._listening.cancel()
        while self._is_listening.is_set():
            await trio.lowlevel.checkpoint()
        self.cut()

    async def pass_all(self) -> None:
        """End every fault, once the port is open again."""
        self._left = dict.fromkeys(Side, math.inf)
        self._left_each = dict.fromkeys(Side, math.inf)
        self._piece = _CHUNK
        self._rates = dict.fromkeys(Side, math.inf)
        self._rejecting = False
        for event in self._flowing.values():
            event.set()
        self._wanted.set()
        await self._is_listening.wait()

    # -- watching

    async def until_accepted(self, count: int) -> None:
        """Wait until `count` connections were taken since the start."""
        while self.accepted < count:
            await self._changed.wait()

    async def until_forwarded(self, count: int, side: Side) -> None:
        """Wait until `count` bytes were passed on in this direction since the start."""
        while self.forwarded[side] < count:
            await self._changed.wait()

    async def until_kept(self, count: int) -> None:
        """Wait until `count` bytes for the store were held back since the start."""
        while self.kept < count:
            await self._changed.wait()

    # -- running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as connections:
            while True:
                (listener,) = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
                self.port = listener.socket.getsockname()[1]
                self._is_listening.set()
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                with trio.CancelScope() as self._listening:
                    await trio.serve_listeners(self._serve, [listener], handler_nursery=connections)
                await listener.aclose()
                self._is_listening = trio.Event()
                await self._wanted.wait()

    def _note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _serve(self, client: trio.SocketStream) -> None:
        self.accepted += 1
        self._note()
        if self._rejecting:
            await trio.aclose_forcefully(client)
            return
        with trio.CancelScope() as scope:
            self._open[scope] = client
            try:
                await self._relay(client, scope)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                del self._open[scope]
                self._held.pop(scope, None)
                self._ports.pop(scope, None)
                await trio.aclose_forcefully(client)

    async def _relay(self, client: trio.SocketStream, scope: trio.CancelScope) -> None:
        store = await trio.open_tcp_stream("127.0.0.1", self._store_port)
        self._ports[scope] = store.socket.getsockname()[1]
        try:
            front: trio.abc.Stream = client
            if self._tls is not None:
                front = trio.SSLStream(client, self._tls, server_side=True)
            left = dict(self._left_each)
            async with trio.open_nursery() as pumps:
                pumps.start_soon(partial(self._pump, Side.TO_STORE, front, store, left, scope))
                pumps.start_soon(partial(self._pump, Side.TO_CLIENT, store, front, left, scope))
        finally:
            await trio.aclose_forcefully(store)

    async def _keep(
        self,
        side: Side,
        first: bytes,
        source: trio.abc.ReceiveStream,
        target: trio.abc.SendStream,
        delivered: trio.Event,
    ) -> None:
        """Collect what comes on a connection that is held back, until it is to be delivered."""
        data = bytearray()

        def keep(more: bytes) -> None:
            data.extend(more)
            if side is Side.TO_STORE:
                self.kept += len(more)
                self._note()

        keep(first)
        async with trio.open_nursery() as reading:
            reading.start_soon(_read_all, source, keep)
            await delivered.wait()
            reading.cancel_scope.cancel()
        if side is Side.TO_STORE:
            await target.send_all(data)
            await trio.sleep(0.2)  # the store reads it before it sees that the connection is closed

    async def _pump(
        self,
        side: Side,
        source: trio.abc.ReceiveStream,
        target: trio.abc.SendStream,
        left: dict[Side, float],
        scope: trio.CancelScope,
    ) -> None:
        try:
            while data := bytes(await source.receive_some(_CHUNK)):
                while data:
                    if scope in self._held:
                        await self._keep(side, data, source, target, self._held[scope])
                        return
                    await self._flowing[side].wait()
                    size = min(len(data), self._piece, self._left[side], left[side])
                    piece, data = data[: int(size)], data[int(size) :]
                    self._left[side] -= size
                    left[side] -= size
                    await target.send_all(piece)
                    await trio.sleep(len(piece) / self._rates[side])
                    self.forwarded[side] += len(piece)
                    self._note()
                    if self._left[side] <= 0 or left[side] <= 0:
                        self._left[side] = math.inf if self._left[side] <= 0 else self._left[side]
                        return
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            if scope not in self._held or side is Side.TO_STORE:
                scope.cancel()  # one direction has ended, so the other has no use


async def _read_all(source: trio.abc.ReceiveStream, keep: Callable[[bytes], None]) -> None:
    try:
        while more := await source.receive_some(_CHUNK):
            keep(bytes(more))
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        pass


def _opened() -> trio.Event:
    event = trio.Event()
    event.set()
    return event


@asynccontextmanager
async def proxied(store_port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    """A running proxy to the Valkey on this port of the loopback."""
    proxy = Proxy(store_port, tls)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        yield proxy
        nursery.cancel_scope.cancel()
