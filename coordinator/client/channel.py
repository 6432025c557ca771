"""A connection that is made again whenever it is lost, and what is subscribed to on it.

Three tasks: one writes what the ledger has gathered, one reads replies and notifications, one watches that the peer is
alive.
"""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import h11
import trio
from pydantic_core import to_json
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection

from coordinator.client.address import Address
from coordinator.client.calls import Calls
from coordinator.client.credentials import Credentials, Unusable, reply_in
from coordinator.client.errors import CannotConnect, ClientClosed, RpcError
from coordinator.client.ledger import Ledger
from coordinator.client.link import BACKOFF_CAP, WatchedStream, open_link, pause_after
from coordinator.client.loop import TrioLoop
from coordinator.client.reasons import first_of, is_denial, is_refusal, one_line, reason_of
from coordinator.client.stream import time_limit

__all__ = ["Channel"]

log = logging.getLogger("coordinator.client")

CLOSE_TIMEOUT: Final = 1.0
REFUSAL_HOLDS: Final = 5.0  # seconds, while the next attempt to connect is under way


class Channel(Calls):
    """Used through `coordinator.client.connect`, which documents the arguments."""

    def __init__(
        self,
        address: Address,
        *,
        tls: ssl.SSLContext | None,
        headers: Mapping[str, str],
        timeout: float,
        give_up_after: float,
        connect_timeout: float,
        keepalive: float,
        max_in_flight: int,
        max_batch_length: int,
        max_frame_bytes: int,
        on_connect: Callable[[], None] | None,
        on_disconnect: Callable[[], None] | None,
        credentials: Credentials | None = None,
    ) -> None:
        self._credentials = credentials
        ledger = Ledger(max_in_flight=max_in_flight, max_batch=max_batch_length, max_frame_bytes=max_frame_bytes)
        super().__init__(
            TrioLoop(), address, ledger, timeout=timeout, on_connect=on_connect, on_disconnect=on_disconnect
        )
        self._something = trio.Event()  # replaced by who writes
        self._alarm = trio.CancelScope()
        self.max_frame_bytes = max_frame_bytes
        self._tls = tls
        self._headers = headers
        self._give_up_after = give_up_after
        self._connect_timeout = connect_timeout
        self._keepalive = keepalive
        self._socket: WebSocketConnection | None = None
        self._connection = trio.CancelScope()  # around all that uses the socket
        self._closing: trio.Event | None = None  # set when that is done
        self._changed = trio.Event()  # set and replaced when `connected` changes
        self._refused_at = -math.inf
        self.nursery: trio.Nursery

    # -- state

    @property
    def connected(self) -> bool:
        return self._socket is not None

    @property
    def is_refused(self) -> bool:
        """There is no connection because nothing listens at the address: its host has said so just now."""
        return not self.connected and trio.current_time() - self._refused_at < BACKOFF_CAP + REFUSAL_HOLDS

    async def wait_connected(self) -> None:
        """Wait until there is a connection. Raises CannotConnect if the client has given up."""
        await trio.lowlevel.checkpoint()
        while self._socket is None:
            if self._ended is not None:
                raise self._ended
            await self._changed.wait()

    def _notify_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def start_soon(self, function: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Run this beside everything, as long as the client is there."""
        self.nursery.start_soon(function, *args)

    # -- running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a connection until cancelled or, after `give_up_after` seconds without one, given up."""
        async with trio.open_nursery() as self.nursery:
            task_status.started()
            self.nursery.start_soon(self._enforce_deadlines)
            self.nursery.start_soon(self._keep_connected)

    async def aclose(self) -> None:
        """Say goodbye, as far as that is quick, and fail whoever still waits."""
        self._end(ClientClosed("the client is closed"))
        if self._socket is not None:
            self._closing = trio.Event()
            try:
                with trio.move_on_after(CLOSE_TIMEOUT):
                    await self._socket.aclose()
            finally:
                self._closing.set()

    def drop(self, why: str) -> None:
        """Give up the present connection for a new one."""
        if self._socket is not None:
            log.warning("leaving the connection to %s: %s", self._address.url, why)
            self._trouble = why
            self._connection.cancel()

    async def _keep_connected(self) -> None:
        failures = 0
        last_connected = trio.current_time()
        while self._ended is None:
            before = self.connections
            self._was_useful = is_denied = False
            try:
                shown = {} if self._credentials is None else self._credentials.headers()
                link = open_link(self._address, self._tls, {**self._headers, **shown}, self._connect_timeout)
                async with link as (socket, stream, nursery):
                    await self._log_in(socket)
                    await self._converse(socket, stream, nursery)
            except* (Unusable, RpcError) as group:
                self._trouble = f"cannot log in: {one_line(str(first_of(group)))}"
                is_denied = isinstance(first_of(group), RpcError)
            except* (OSError, trio.BrokenResourceError, HandshakeError, ConnectionClosed, h11.ProtocolError) as group:
                self._trouble = reason_of(group, self._address)
                is_denied = is_denial(group)
                if is_refusal(group):
                    self._refused_at = trio.current_time()
            now = trio.current_time()
            if self.connections > before:
                last_connected = now
            if self._was_useful:
                failures = 0
            if self._ended is not None:
                return
            if now - last_connected >= self._give_up_after:
                why = f"no connection to {self._address.url}: {self._trouble}"
                self._end(CannotConnect(why, denied=is_denied))
                return
            pause = pause_after(failures)
            log.warning("no connection to %s: %s; again in %.1f s", self._address.url, self._trouble, pause)
            await trio.sleep(min(pause, last_connected + self._give_up_after - now))
            failures += 1

    async def _log_in(self, socket: WebSocketConnection) -> None:
        """Log in on a new connection, before anything else is sent on it. Raises RpcError, Unusable."""
        if self._credentials is None:
            return

        async def ask(method: str, params: Mapping[str, Any]) -> Any:
            await socket.send_message(to_json({"jsonrpc": "2.0", "id": 0, "method": method, "params": params}).decode())
            return reply_in(await socket.get_message())

        with time_limit(self._connect_timeout, "it does not answer the login"):
            await self._credentials.log_in(ask, self._address)

    async def _converse(self, socket: WebSocketConnection, stream: WatchedStream, nursery: trio.Nursery) -> None:
        """Use a connection until it ends."""
        self._socket = socket
        self._connection = nursery.cancel_scope
        self._connection_begun()
        try:
            self._resume()
            nursery.start_soon(self._write, socket)
            nursery.start_soon(self._watch, socket, stream)
            await self._read(socket)
            # That ends as soon as we say goodbye. A task of the socket's reads the answer, and must live until then: or
            # the timeout would pass.
            if self._closing is not None:
                await self._closing.wait()
        finally:
            self._socket = None
            closed = socket.closed
            self._connection_ended(None if closed is None else (closed.code, closed.reason))

    async def _write(self, socket: WebSocketConnection) -> None:
        """Send what has gathered since the last turn, in one frame if it fits."""
        try:
            while self._socket is socket:  # what is taken when it is lost already would wait for a reply for ever
                frame = self._ledger.take()
                if frame is None:
                    self._something = trio.Event()
                    await self._something.wait()
                else:
                    await socket.send_message(frame)
        except ConnectionClosed:
            pass  # so the reader ends, too

    async def _read(self, socket: WebSocketConnection) -> None:
        while True:
            try:
                data = await socket.get_message()
            except ConnectionClosed:
                return
            self._was_useful = True
            if not self._received(data):
                return

    async def _watch(self, socket: WebSocketConnection, stream: WatchedStream) -> None:
        """Ping when nothing was received for long, and end the connection if even that brings nothing."""
        while True:
            await trio.sleep_until(stream.last_received + self._keepalive)
            began = trio.current_time()
            if began < stream.last_received + self._keepalive:
                continue
            with trio.move_on_after(self._keepalive) as limit:
                try:
                    await socket.ping()
                except ConnectionClosed:
                    return
                self._was_useful = True
            if limit.cancelled_caught and stream.last_received < began:
                self.drop("the server is silent")
