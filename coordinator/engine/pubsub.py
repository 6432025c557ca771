"""What other coordinators on the same store did: Pub/Sub messages about the contexts somebody here waits in.

On a cluster each node passes what is published on to all others, so one connection, to GLOBAL's node, hears of every
context.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import structlog
import trio

from coordinator.backoff import Backoff
from coordinator.storage.connection import Command, Connection, Reply, Store
from coordinator.storage.faults import ReplyError, StoreMisconfigured, StoreUnavailable
from coordinator.storage.keys import GLOBAL, ContextKey

__all__ = ["PubSub"]

log = structlog.get_logger("coordinator.pubsub")

PING_EVERY: Final = 5.0  # seconds of silence after which the store is asked whether it is there; twice that is too long
BACKOFF_BASE: Final = 0.05  # seconds before the second attempt to connect
BACKOFF_CAP: Final = 2.0
LOOK_EVERY: Final = 10.0  # seconds; between the nodes of a cluster messages can get lost without our noticing


class PubSub:
    """Listens on one connection of its own.

    Args:
        learn: is given a context and the effects another coordinator announced, or None whenever we have just begun to
            listen and may have missed some. Must not block or raise.
    """

    def __init__(self, store: Store, learn: Callable[[ContextKey, Sequence[bytes] | None], None]) -> None:
        self._store = store
        self._learn = learn
        self._own = store.layout.caller.encode()
        self._wanted: dict[ContextKey, None] = {}
        self._is_silent = False  # so the store is to be asked whether it is there
        self._changed = trio.Event()  # one of these two

    def listen(self, context_key: ContextKey) -> None:
        """Begin to listen; `learn` is called with None once we do."""
        if context_key not in self._wanted:
            self._wanted[context_key] = None
            self._changed.set()

    def ignore(self, context_key: ContextKey) -> None:
        """Stop listening."""
        if context_key in self._wanted:
            del self._wanted[context_key]
            self._changed.set()

    async def run(self) -> None:
        """Never returns. Connects when there is something to listen to, and again whenever that breaks.

        After a crash it may be run again: each connection begins by subscribing to everything that is wanted.
        """
        backoff = Backoff(cap=BACKOFF_CAP, base=BACKOFF_BASE)
        failures = 0
        while True:
            while not self._wanted:
                await self._wait_for_change()
            try:
                connection = await self._store.open(GLOBAL)
                failures = 0
                await self._use(connection)
            except (StoreUnavailable, StoreMisconfigured) as error:
                log.debug("not listening to other coordinators", reason=str(error))
                self._store.lost(GLOBAL, str(error))
            failures += 1
            await trio.sleep(backoff.compute(failures))

    async def _wait_for_change(self) -> None:
        await self._changed.wait()
        self._changed = trio.Event()

    async def _use(self, connection: Connection) -> None:
        """Raises StoreUnavailable when the connection breaks, or is silent for too long."""
        self._is_silent = False
        broken: BaseExceptionGroup[StoreUnavailable] | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, connection)
                if self._store.layout.is_spread:
                    nursery.start_soon(self._look_regularly)
                while True:
                    self._handle(await self._receive(connection))
        except* StoreUnavailable as group:
            broken = group
        finally:
            with trio.CancelScope(shield=True):  # closing at once does not wait for the peer
                await connection.aclose()
        if broken is not None:
            raise StoreUnavailable(str(broken.exceptions[0])) from broken

    async def _send(self, connection: Connection) -> None:
        """Send what is to be sent on this connection: no other task does, so two commands never meet on the wire."""
        subscribed: dict[ContextKey, None] = {}
        while True:
            commands: list[Command] = []
            wanted = dict.fromkeys(self._wanted)  # as it is now: it may change while we send
            added = [context_key for context_key in wanted if context_key not in subscribed]
            dropped = [context_key for context_key in subscribed if context_key not in wanted]
            if added:
                commands.append(("SUBSCRIBE", *map(self._channel, added)))
            if dropped:
                commands.append(("UNSUBSCRIBE", *map(self._channel, dropped)))
            if self._is_silent:
                # It asks for a key, so that a node which no longer has GLOBAL, and may have left the cluster, says so.
                commands.append(("EXISTS", self._store.layout.keyspace(GLOBAL).contexts()))
                self._is_silent = False
            if commands:
                await connection.send(commands)
            subscribed = wanted
            await self._wait_for_change()

    async def _look_regularly(self) -> None:
        while True:
            await trio.sleep(LOOK_EVERY)
            for context_key in [*self._wanted]:
                self._learn(context_key, None)

    def _channel(self, context_key: ContextKey) -> str:
        return self._store.layout.keyspace(context_key).channel

    async def _receive(self, connection: Connection) -> Reply:
        """The next push message or reply. If none comes for long, the store is asked for one."""
        with trio.move_on_after(PING_EVERY):
            return await connection.receive()
        self._is_silent = True
        self._changed.set()
        with trio.move_on_after(PING_EVERY):
            return await connection.receive()
        raise StoreUnavailable("the store is silent")

    def _handle(self, reply: Reply) -> None:
        if isinstance(reply, ReplyError):
            raise StoreUnavailable(str(reply))
        if not isinstance(reply, list):
            return
        kind, channel, content = reply
        name = channel.rpartition(b":")[2]
        context_key: ContextKey = int(name) if name.isdigit() else GLOBAL
        if kind == b"subscribe":
            self._learn(context_key, None)
        elif kind == b"message":
            coordinator, *effects = content.split(b"\n")
            if coordinator != self._own:
                self._learn(context_key, effects)
