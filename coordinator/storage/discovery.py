"""Finding out from several servers what one alone may not know or not live to tell."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Generic, TypeVar

import trio

from coordinator.storage.connection import Connection, Reply, explain
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.faults import TRANSPORT_ERRORS, ReplyError, StoreMisconfigured, StoreUnavailable, is_transient
from coordinator.storage.keys import Command

__all__ = ["Finding", "first_answer", "query", "shown"]

T = TypeVar("T")

ANSWER_WITHIN: Final = 2.0  # seconds for one server to be connected to and to answer
NEXT_AFTER: Final = 0.2  # seconds after which the next one is asked as well
SEARCH_EVERY: Final = 0.1  # seconds between the ends and the beginnings of searches


class Finding(Generic[T]):
    """Something found out by asking, and asked for again once it is doubted: by one for all who need it, and not more
    often than every tenth of a second."""

    def __init__(self, find: Callable[[], Awaitable[T]]) -> None:
        self._find = find
        self._value: T | None = None
        self._fault: StoreUnavailable | StoreMisconfigured | None = None
        self._doubts = 1
        self._settled = 0  # the doubts there were when what was found was asked for
        self._failed = 0  # the same of the last search that found nothing
        self._next = -math.inf
        self._lock = trio.Lock()

    def invalidate(self) -> None:
        """It may not be so any more."""
        self._doubts += 1

    async def get(self) -> T:
        """It, as it was last found. Raises what the search raised: StoreUnavailable, StoreMisconfigured."""
        doubts = self._doubts
        if self._settled < doubts:
            async with self._lock:
                if max(self._settled, self._failed) < doubts:  # nobody has asked since
                    await self._search()
        if self._settled < doubts:
            assert self._fault is not None
            raise type(self._fault)(str(self._fault))
        assert self._value is not None
        return self._value

    async def _search(self) -> None:
        await trio.sleep_until(self._next)
        doubts = self._doubts
        try:
            self._value = await self._find()
            self._settled = doubts
        except (StoreUnavailable, StoreMisconfigured) as error:
            self._fault = error
            self._failed = doubts
            self._doubts += 1
        self._next = trio.current_time() + SEARCH_EVERY


def shown(kind: str, servers: Sequence[Endpoint]) -> str:
    """Several servers as one URL, without credentials."""
    scheme, _, first = str(servers[0]).partition("://")
    return ",".join([f"{scheme}+{kind}://{first}", *(str(server).partition("://")[2] for server in servers[1:])])


async def first_answer(endpoints: Iterable[Endpoint], ask: Callable[[Endpoint], Awaitable[T]]) -> T:
    """Ask the servers in this order, each once the one before has failed or been silent for a moment. The first answer
    wins.

    Raises:
        StoreUnavailable, StoreMisconfigured: what became of the first, if none answered; of the first that may answer
            later, if there is one.
    """
    answers: list[T] = []
    faults: list[StoreUnavailable | StoreMisconfigured] = []

    async def attempt(endpoint: Endpoint, failed: trio.Event) -> None:
        try:
            with trio.fail_after(ANSWER_WITHIN):
                answer = await ask(endpoint)
        except trio.TooSlowError:
            faults.append(StoreUnavailable(f"{endpoint} did not answer within {ANSWER_WITHIN:g} s"))
        except (StoreUnavailable, StoreMisconfigured) as error:
            faults.append(error)
        else:
            answers.append(answer)
            nursery.cancel_scope.cancel()
        failed.set()

    async with trio.open_nursery() as nursery:
        for endpoint in endpoints:
            failed = trio.Event()
            nursery.start_soon(attempt, endpoint, failed)
            with trio.move_on_after(NEXT_AFTER):
                await failed.wait()
    if answers:
        return answers[0]
    raise min(faults, key=lambda fault: isinstance(fault, StoreMisconfigured))


async def query(endpoint: Endpoint, commands: Sequence[Command]) -> list[Reply]:
    """Replies from a server on a connection of its own, which is closed then.

    Raises:
        StoreUnavailable: there was none, or an error reply that may be another later.
        StoreMisconfigured: any other error reply.
    """
    replies: list[Reply] = []
    try:
        connection = Connection(await endpoint.open())
        try:
            await connection.exchange([*commands], replies)
        finally:
            await connection.aclose()
    except TRANSPORT_ERRORS as error:
        raise StoreUnavailable(f"cannot reach {endpoint}: {explain(error)}") from error
    for reply in replies:
        if isinstance(reply, ReplyError):
            kind = StoreUnavailable if is_transient(reply) else StoreMisconfigured
            raise kind(f"{endpoint} says: {reply}")
    return replies
