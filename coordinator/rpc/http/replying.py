"""The reply to a call's JSON-RPC message: where it arrives, and how it is waited for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import ceil

import trio

from coordinator.actors.request import Request
from coordinator.errors import Overloaded
from coordinator.rpc.access.client import Access
from coordinator.rpc.access.limits import Account
from coordinator.rpc.http.decisions import Answer, Call
from coordinator.rpc.jsonrpc.calls import Intake
from coordinator.rpc.jsonrpc.replies import Response, Sink
from coordinator.rpc.work import Work

__all__ = ["Reply", "Respond", "replying"]

Respond = Callable[[Response | None, Answer | None], None]
"""Gets the response to a call's body, or None if it gets none; and if nothing of it was done, for nobody has logged in
or the caller is over its limits, the response that says so, without that body. Does not block or raise."""


def replying(call: Call, message: bytes | bytearray, intake: Intake, respond: Respond) -> Work[Reply]:
    """Put a call's JSON-RPC message on its way. Its reply goes to `respond` as soon as there is one, and the result is
    what to `wait` for it with."""
    reply = Reply(call, respond, intake.access, intake.account)
    try:
        yield from intake.take(message, reply)
        full = intake.flush_now()
        if full is not None:
            yield full
    except BaseException:
        reply.abandon()
        raise
    return reply


class Reply(Sink):
    """The sink of one message.

    Attributes:
        has_arrived: the reply has.
    """

    __slots__ = ("_access", "_account", "_arrived", "_call", "_long_calls", "_respond", "has_arrived")

    def __init__(self, call: Call, respond: Respond, access: Access | None, account: Account | None) -> None:
        self._call = call
        self._respond = respond
        self._access = access
        self._account = account
        self._long_calls: list[Request] = []
        self._arrived: trio.Event | None = None  # while somebody waits for it
        self.has_arrived = False

    def reply(self, response: Response | None, calls: int = 1) -> None:
        if self._account is not None and response is not None:
            self._account.spend(sum(map(len, response)) if isinstance(response, list) else len(response))
        is_unauthorized = self._access is not None and self._access.refused >= calls
        self._answer(response, self._call.unauthorized if is_unauthorized else None)

    def refuse(self, response: bytes, refused: Overloaded) -> None:
        retry_after = b"retry-after", b"%d" % ceil(refused.data["retry_after"])
        self._answer(response, Answer(429, (*self._call.replied.headers, retry_after)))

    def _answer(self, response: Response | None, instead: Answer | None) -> None:
        self.has_arrived = True
        self._respond(response, instead)
        if self._arrived is not None:
            self._arrived.set()

    def waits_for(self, call: Request) -> None:
        self._long_calls.append(call)

    def abandon(self) -> None:
        """Nobody waits for the reply any more."""
        for call in self._long_calls:
            call.abandon()

    @property
    def takes_long(self) -> bool:
        """Whether it may: then somebody has to look whether the client is still there."""
        return bool(self._long_calls) and not self.has_arrived

    async def wait(self, hung_up: Callable[[], Awaitable[None]]) -> bool:
        """Wait until it has arrived or, if it may take long, the client is gone. Returns whether it has arrived. If it
        has not, or if this is cancelled, the call is abandoned.

        Args:
            hung_up: returns once the client is gone. Called only if it may take long.
        """
        if self.has_arrived:
            return True
        self._arrived = arrived = trio.Event()
        try:
            if not self._long_calls:
                await arrived.wait()  # the directory answers every request by its deadline
                return True
            async with trio.open_nursery() as nursery:

                async def give_up_with_client() -> None:
                    await hung_up()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(give_up_with_client)
                await arrived.wait()
                nursery.cancel_scope.cancel()
        finally:
            if not self.has_arrived:
                self.abandon()
        return self.has_arrived
