"""JSON-RPC over WebSocket: which connections are accepted, and what all of them have in common."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final

import structlog
import trio

from coordinator.accepting import REFUSAL, Refusing, Tally, yields_one
from coordinator.budget import Budget
from coordinator.errors import CoordinatorError, Overloaded
from coordinator.rpc.access.audit.trail import Trail
from coordinator.rpc.access.certificates import certified_by
from coordinator.rpc.access.client import Access
from coordinator.rpc.access.cookies import shown_by_cookie
from coordinator.rpc.access.crowds import Crowd, check_room
from coordinator.rpc.access.forwarded import Proxies, peer_address
from coordinator.rpc.access.logins import NOT_GOOD
from coordinator.rpc.access.origins import AccessPolicy
from coordinator.rpc.access.principals import Principal
from coordinator.rpc.access.tokens import shown_by
from coordinator.rpc.jsonrpc.dispatcher import Dispatcher
from coordinator.rpc.listening import accept_clients
from coordinator.rpc.websocket.connection import CLOSE_TIMEOUT, Connection
from coordinator.rpc.websocket.handshake import Refused, UpgradeRequest, accept, read_upgrade, receive_head
from coordinator.socketio import linger, peer_host, send_steadily
from coordinator.supervision import supervise
from coordinator.tlsstream import Secure, in_the_clear

__all__ = ["WebSocketFrontEnd"]

log = structlog.get_logger("coordinator.websocket")

HANDSHAKE_TIMEOUT: Final = 10.0  # seconds, for the whole of it
HANDSHAKE_GRACE: Final = 1.0  # seconds after which one that is not complete gives way to a new client
SHAKEN_AT_ONCE: Final = 8  # handshakes worked on, each a millisecond or so, with others between any two steps of them
REFUSED_TIMEOUT: Final = 1.0  # seconds a client has to read why it was refused
REFUSED_BYTES: Final = 1024 * 1024  # read and dropped meanwhile
LOOK_EVERY: Final = 1.0  # seconds between looks at whether clients are there
LOOKED_AT_ONCE: Final = 256  # connections, before others get on


class WebSocketFrontEnd:
    """Serves any number of listeners, and connections whose first bytes somebody else has read.

    Args:
        max_connections: clients connected at once; a further one's handshake is answered with 503. One whose handshake
            is not complete after a second gives way to a new one, and so does one that has to log in and has not after
            two, or at once if its address is another and has the most of those.
        max_in_flight: unanswered calls a connection may have before we stop reading from it.
        max_frame_bytes: size of a message; a larger one closes the connection with 1009.
        max_unsent_bytes: see Budget.
        write_timeout: seconds without progress after which a client that does not read is disconnected.
        message_timeout: seconds for a message to arrive in all, if it is not large; a client that takes longer is
            disconnected.
        login_timeout: the same for a client that has to log in and has not.
        ping_interval: seconds of silence after which a client is pinged; 0 for never.
        elsewhere: where the HTTP API is; a client that is looking for it is told so.
        proxies: those that are believed where a client is.
        secure: makes a TLS stream of a connection that was accepted, if that is spoken.
        on_disconnect: called when the connection of a listener's client has been closed.

    Attributes:
        tally: what became of the connections.
        connections: clients connected.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        policy: AccessPolicy,
        *,
        max_connections: int,
        max_in_flight: int,
        max_frame_bytes: int,
        max_unsent_bytes: int,
        write_timeout: float,
        ping_interval: float = 0.0,
        message_timeout: float = math.inf,
        login_timeout: float = math.inf,
        elsewhere: str = "another port",
        proxies: Proxies | None = None,
        secure: Secure = in_the_clear,
        on_disconnect: Callable[[], None] = lambda: None,
    ) -> None:
        self._dispatcher = dispatcher
        self._policy = policy
        self._max_connections = max_connections
        self._max_in_flight = max_in_flight
        self._max_frame_bytes = max_frame_bytes
        self._max_unsent_bytes = max_unsent_bytes
        self._write_timeout = write_timeout
        self._ping_interval = ping_interval
        self._message_timeout = message_timeout
        self._login_timeout = login_timeout
        self._elsewhere = elsewhere
        self._proxies = proxies or Proxies()
        self._secure = secure
        self._on_disconnect = on_disconnect
        self.tally = Tally()
        self._accepting = trio.CancelScope()
        self._half_open: dict[trio.CancelScope, float] = {}  # handshakes and when they began, the oldest first
        self._shaking: set[trio.CancelScope] = set()  # all handshakes
        self._turns = trio.Semaphore(SHAKEN_AT_ONCE)
        self._open: set[Connection] = set()
        self._refusing = Refusing()
        self._crowd = Crowd(self._nobodies, counts_addresses=True)
        self._may_yield: dict[Connection, None] = {}  # of those, the ones looked at longest ago first
        self._is_stopping = False
        self._grace_ends = math.inf
        self.connections = 0

    async def serve(self, listener: trio.abc.Listener[trio.SocketStream]) -> None:
        """Accept clients until stopped; returns when the last one is gone."""
        async with trio.open_nursery() as looking:
            looking.start_soon(supervise, "looking after WebSocket clients", self._look_after_clients)
            async with trio.open_nursery() as clients:
                with self._accepting:
                    await accept_clients(
                        listener,
                        self.serve_connection,
                        clients,
                        name="websocket",
                        max_connections=self._max_connections,
                        full=REFUSAL,
                        secure=self._secure,
                        on_disconnect=self._on_disconnect,
                        tally=self.tally,
                    )
            looking.cancel_scope.cancel()

    def stop(self, grace: float) -> None:
        """Accept and read no more, answer what is in flight within `grace` seconds, close with 1001."""
        self._is_stopping = True
        self._grace_ends = trio.current_time() + grace
        self._accepting.cancel()
        for handshake in self._shaking:
            handshake.cancel()
        for connection in self._open:
            connection.stop(self._grace_ends)

    async def serve_connection(
        self, stream: trio.abc.Stream, received: bytes = b"", policy: AccessPolicy | None = None
    ) -> None:
        """Serve one client until it has gone, and close the connection.

        Args:
            received: what was read of it already: the beginning of its handshake.
            policy: who may connect, if it came to another listener than ours.
        """
        try:
            if self._has_room(peer_host(stream)):
                self.connections += 1
                try:
                    await self._serve(stream, received, policy or self._policy)
                finally:
                    self.connections -= 1
            else:
                self.tally.refused += 1
                with self._refusing.one_more():
                    await self._refuse(stream, Refused(503, "too many connections, see --max-connections"))
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            log.debug("a client that did not wait for the answer to its handshake")
        except* Exception:
            # One client's connection must never take the others with it.
            log.exception("a WebSocket connection failed")
        finally:
            with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
                await stream.aclose()

    def _has_room(self, address: str) -> bool:
        """Whether one more client may connect, from this address. If need be, the oldest handshake gives way, or a
        client that has to log in and has not: those that send a request at once are not kept out by them."""
        if self.connections < self._max_connections:
            return True
        for handshake, began in self._half_open.items():
            if trio.current_time() - began < HANDSHAKE_GRACE:
                break
            if not handshake.cancel_called:
                handshake.cancel()
                return True
        return yields_one(self._may_yield) or self._crowd.makes_room(address)

    def _nobodies(self) -> Iterator[Connection]:
        return (connection for connection in self._open if connection.identity is None)

    async def _serve(self, stream: trio.abc.Stream, received: bytes, policy: AccessPolicy) -> None:
        shaken = await self._shake_hands(stream, received, policy)
        if shaken is None or self._is_stopping:
            return
        upgrade, unparsed = shaken
        connection = Connection(
            stream,
            self._dispatcher,
            Budget(self._max_unsent_bytes, partial(self._address_of, stream, upgrade)),
            max_frame_bytes=self._max_frame_bytes,
            max_in_flight=self._max_in_flight,
            write_timeout=self._write_timeout,
            message_timeout=self._message_timeout,
            login_timeout=self._login_timeout,
            shown=upgrade,
            check_room=self._check_room,
        )
        self._open.add(connection)
        self._may_yield[connection] = None
        try:
            await connection.run(unparsed)
        finally:
            self._open.discard(connection)
            self._may_yield.pop(connection, None)

    def _address_of(self, stream: trio.abc.Stream, upgrade: UpgradeRequest) -> str:
        return peer_address(peer_host(stream), upgrade.headers, self._proxies)

    # -- the handshake

    async def _shake_hands(
        self, stream: trio.abc.Stream, received: bytes, policy: AccessPolicy
    ) -> tuple[UpgradeRequest, bytes] | None:
        """The client's request and what was read behind it, once the WebSocket is open; None if it is not."""
        with trio.move_on_after(HANDSHAKE_TIMEOUT) as limit, self._is_shaking(limit):
            try:
                with self._is_half_open(limit):
                    request = await receive_head(stream, received)
                if request is None:
                    return None
                head, unparsed = request
                async with self._turn(limit):
                    upgrade = read_upgrade(head, self._elsewhere)
                    self._check(upgrade, policy)
                    response = await accept(upgrade)
                await self._check_token(upgrade, stream, policy)
            except Refused as refused:
                await self._refuse(stream, refused)
                return None
            await send_steadily(stream, response, HANDSHAKE_TIMEOUT)
            return upgrade, unparsed
        return None

    @asynccontextmanager
    async def _turn(self, handshake: trio.CancelScope) -> AsyncIterator[None]:
        """Wait in line with other handshakes, which takes none of the client's time. All that were sent at once, after
        a restart for instance, would otherwise be worked on in the same pass of the loop, and everybody would wait for
        all of them."""
        handshake.deadline = math.inf
        async with self._turns:
            handshake.deadline = trio.current_time() + HANDSHAKE_TIMEOUT
            yield

    def _check(self, upgrade: UpgradeRequest, policy: AccessPolicy) -> None:
        """Raises Refused if this client may not connect."""
        refusal = policy.refusal(upgrade.origin, upgrade.host)
        if refusal is not None:
            raise Refused(403, refusal)
        if self._is_stopping:
            raise Refused(503, "the coordinator is shutting down")

    async def _check_token(self, upgrade: UpgradeRequest, stream: trio.abc.Stream, policy: AccessPolicy) -> None:
        """Raises Refused if the client shows what is not good. Who shows nothing may log in later."""
        gate = self._dispatcher.gate
        if gate is None:
            return
        authorization = None if upgrade.authorization is None else upgrade.authorization.encode("latin-1")
        upgrade.shown = shown_by(authorization)
        if not upgrade.shown.digest:
            upgrade.shown = shown_by_cookie(policy, upgrade.headers, upgrade.host, needs_origin=True)
        if not upgrade.shown.digest:
            upgrade.shown = certified_by(stream)
        if not upgrade.shown.digest:
            return
        shown = Access(gate, shown=upgrade.shown)
        try:
            await shown.identify()
        except CoordinatorError:
            raise Refused(503, "the store does not answer, or too many log in at once; try again soon") from None
        if self._dispatcher.logs is not None:
            address = self._address_of(stream, upgrade)
            Trail(self._dispatcher.logs, "ws", address, shown).connected()
        if shown.principal is None:
            raise Refused(
                401,
                shown.refusal or NOT_GOOD,
                'www-authenticate: Bearer realm="herocoordinator"',
            )
        try:
            self._check_room(shown.principal)
        except Overloaded as overloaded:
            raise Refused(503, overloaded.data["detail"]) from None
        upgrade.principal = shown.principal

    def _check_room(self, principal: Principal) -> None:
        """Raises Overloaded."""
        held = (connection.identity for connection in self._open)
        try:
            check_room(principal.identity, held, taken=self.connections, most=self._max_connections)
        except Overloaded:
            self.tally.refused += 1
            raise

    async def _refuse(self, stream: trio.abc.Stream, refused: Refused) -> None:
        with trio.move_on_after(REFUSED_TIMEOUT):
            await send_steadily(stream, refused.response, REFUSED_TIMEOUT)
            await linger(stream, REFUSED_BYTES)

    @contextmanager
    def _is_shaking(self, handshake: trio.CancelScope) -> Iterator[None]:
        self._shaking.add(handshake)
        try:
            yield
        finally:
            self._shaking.remove(handshake)

    @contextmanager
    def _is_half_open(self, handshake: trio.CancelScope) -> Iterator[None]:
        self._half_open[handshake] = trio.current_time()
        try:
            yield
        finally:
            del self._half_open[handshake]

    # -- clients that are gone

    async def _look_after_clients(self) -> None:
        """Have each connection looked at every now and then: one task for all, and no timer a client."""
        every = min(LOOK_EVERY, self._ping_interval / 4) if self._ping_interval else LOOK_EVERY
        while True:
            await trio.sleep(every)
            for number, connection in enumerate([*self._open], 1):
                connection.look(trio.current_time(), self._ping_interval)
                if number % LOOKED_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
