"""A connection that is made again whenever it is lost, and what is subscribed to on it, on asyncio.

Three tasks: one writes what the ledger has gathered, one reads replies and notifications, one watches that the peer is
alive.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from pydantic_core import to_json
from trio_websocket import HandshakeError
from wsproto.utilities import ProtocolError

from coordinator.client.address import Address
from coordinator.client.aio.calls import Calls
from coordinator.client.aio.loop import AsyncioLoop
from coordinator.client.aio.socket import Socket, open_socket
from coordinator.client.credentials import Credentials, Unusable, reply_in
from coordinator.client.errors import CannotConnect, ClientClosed, RpcError
from coordinator.client.ledger import Ledger
from coordinator.client.link import pause_after
from coordinator.client.reasons import Unreachable, is_denial, one_line, reason_of

__all__ = ["Channel"]

log = logging.getLogger("coordinator.client")

TROUBLES: Final = (OSError, EOFError, HandshakeError, ProtocolError)


class Channel(Calls):
    """Used through `coordinator.client.aio.connect`, which documents the arguments."""

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
        credentials: Credentials | None,
    ) -> None:
        ledger = Ledger(max_in_flight=max_in_flight, max_batch=max_batch_length, max_frame_bytes=max_frame_bytes)
        super().__init__(
            AsyncioLoop(), address, ledger, timeout=timeout, on_connect=on_connect, on_disconnect=on_disconnect
        )
        self._asyncio = asyncio.get_running_loop()
        self._something: asyncio.Event = asyncio.Event()
        self.max_frame_bytes = max_frame_bytes
        self._tls = tls
        self._headers = headers
        self._give_up_after = give_up_after
        self._connect_timeout = connect_timeout
        self._keepalive = keepalive
        self._credentials = credentials
        self._socket: Socket | None = None
        self._dropped: asyncio.Future[None] = self._asyncio.create_future()  # completed to give the connection up
        self._changed = asyncio.Event()  # set and replaced when `connected` changes
        self._tasks: asyncio.TaskGroup | None = None

    # -- state

    @property
    def connected(self) -> bool:
        return self._socket is not None

    async def wait_connected(self) -> None:
        """Wait until there is a connection. Raises CannotConnect if the client has given up, ClientClosed."""
        while self._socket is None:
            if self._ended is not None:
                raise self._ended
            await self._changed.wait()

    def _notify_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def start_soon(self, function: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Run this beside everything, as long as the client is there."""

        async def run() -> None:
            await function(*args)

        if self._tasks is not None:
            self._tasks.create_task(run())

    # -- running

    async def run(self) -> None:
        """Keep a connection until cancelled or, after `give_up_after` seconds without one, given up."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await self._keep_connected()
        except Exception as error:
            self._end(CannotConnect(f"the client has failed: {error!r}"))  # so that nobody waits for it
            raise

    async def aclose(self) -> None:
        """Say goodbye, as far as that is quick, and fail whoever still waits."""
        self._end(ClientClosed("the client is closed"))
        self._set_alarm(math.inf)
        if self._socket is not None:
            await self._socket.aclose()

    def drop(self, why: str) -> None:
        """Give up the present connection for a new one."""
        if self._socket is not None and not self._dropped.done():
            log.warning("leaving the connection to %s: %s", self._address.url, why)
            self._trouble = why
            self._dropped.set_result(None)

    async def _keep_connected(self) -> None:
        failures = 0
        last_connected = self._asyncio.time()
        while self._ended is None:
            before = self.connections
            self._was_useful = is_denied = False
            try:
                await self._use_a_connection()
            except (Unusable, RpcError) as error:
                self._trouble = f"cannot log in: {one_line(str(error))}"
                is_denied = isinstance(error, RpcError)
            except TROUBLES as error:
                self._trouble = reason_of(error, self._address)
                is_denied = is_denial(error)
            now = self._asyncio.time()
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
            await asyncio.sleep(min(pause, last_connected + self._give_up_after - now))
            failures += 1

    async def _use_a_connection(self) -> None:
        """Connect, and use the connection until it ends. Raises Unusable, RpcError and TROUBLES."""
        shown = {} if self._credentials is None else self._credentials.headers()
        socket = await open_socket(self._address, self._tls, {**self._headers, **shown}, self._connect_timeout)
        try:
            await self._log_in(socket)
            await self._converse(socket)
        finally:
            await socket.aclose()

    async def _log_in(self, socket: Socket) -> None:
        """Log in on a new connection, before anything else is sent on it. Raises RpcError, Unusable, Unreachable."""
        if self._credentials is None:
            return

        async def ask(method: str, params: Mapping[str, Any]) -> Any:
            await socket.send(to_json({"jsonrpc": "2.0", "id": 0, "method": method, "params": params}).decode())
            message = await socket.receive()
            if message is None:
                raise Unreachable("it closed the connection in the login")
            return reply_in(message)

        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._credentials.log_in(ask, self._address)
        except TimeoutError:
            raise Unreachable(f"it does not answer the login within {self._connect_timeout:g} s") from None

    async def _converse(self, socket: Socket) -> None:
        """Use a connection until it ends."""
        self._socket = socket
        self._dropped = self._asyncio.create_future()
        self._connection_begun()
        try:
            self._resume()
            await self._exchange(socket)
        finally:
            self._socket = None
            self._connection_ended(socket.closed)

    async def _exchange(self, socket: Socket) -> None:
        """Read, write and watch until one of the three ends, or the connection is given up."""
        tasks = [asyncio.ensure_future(part(socket)) for part in (self._read, self._write, self._watch)]
        try:
            await asyncio.wait([*tasks, self._dropped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, asyncio.CancelledError):
                raise end

    async def _write(self, socket: Socket) -> None:
        """Send what has gathered since the last turn, in one frame if it fits."""
        while True:
            frame = self._ledger.take()
            if frame is None:
                self._something.clear()
                await self._something.wait()
            else:
                await socket.send(frame.decode())

    async def _read(self, socket: Socket) -> None:
        while (data := await socket.receive()) is not None:
            self._was_useful = True
            if not self._received(data):
                return

    async def _watch(self, socket: Socket) -> None:
        """Ping when nothing was received for long, and end the connection if even that brings nothing."""
        while True:
            began = self._asyncio.time()
            silent_for = began - socket.last_received
            if silent_for < self._keepalive:
                await asyncio.sleep(self._keepalive - silent_for)
                continue
            socket.ping()
            await asyncio.sleep(self._keepalive)
            if socket.last_received < began:
                self.drop("the server is silent")
                return
            self._was_useful = True
