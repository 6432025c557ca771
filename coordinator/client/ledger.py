"""Who waits for what, sans-IO: calls in, frames out; replies in, outcomes out. Knows no socket, task or clock."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pydantic_core import PydanticSerializationError, SchemaSerializer, core_schema, to_json

from coordinator import errors
from coordinator.client.errors import CallTooLarge, CannotBeSent, ConnectionLost, NoReply

__all__ = ["Call", "Finish", "Ledger", "encode", "encode_call"]

Finish = Callable[[dict[str, Any] | Exception], None]
"""Takes a call's outcome: the reply object, or why there is none. Must not block or raise."""

_ANYTHING: Final = SchemaSerializer(core_schema.any_schema())


def encode(params: Any) -> bytes:
    """Params as JSON. Of models in it only what was set is sent, so that what was left out stays as it is stored.

    Raises CannotBeSent, also for NaN and infinities: JSON has none, and as null they would mean something else.
    """
    serializer: SchemaSerializer = getattr(params, "__pydantic_serializer__", _ANYTHING)
    try:
        encoded = serializer.to_json(params, exclude_unset=True)
    except PydanticSerializationError as error:
        raise CannotBeSent(f"the params cannot be sent: {_reason(error)}") from None
    if b"null" in encoded and (found := _not_finite(params, "params")) is not None:
        raise CannotBeSent(f"the params cannot be sent: {found}, which JSON has not")
    return encoded


def _not_finite(value: Any, place: str) -> str | None:
    """The first number that is none, and where it is."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{place} is {value}"
    parts: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        parts = ((f"{place}.{name}", part) for name, part in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        parts = ((f"{place}[{index}]", part) for index, part in enumerate(value))
    elif hasattr(value, "__pydantic_serializer__"):
        parts = ((f"{place}.{name}", part) for name, part in vars(value).items())
    return next((found for name, part in parts if (found := _not_finite(part, name)) is not None), None)


def encode_call(method: str, params: Any) -> bytes:
    """A call by itself, to be sent on a connection that carries no other."""
    return _payload(method, None if params is None else encode(params), 1)


def _payload(method: str, params: bytes | None, id: int | None) -> bytes:
    """A call as JSON, without an id a notification."""
    member = b"" if id is None else b'"id":%d,' % id
    rest = b"" if params is None else b',"params":' + params
    try:
        return b'{"jsonrpc":"2.0",%b"method":%b%b}' % (member, to_json(method), rest)
    except PydanticSerializationError as error:
        raise CannotBeSent(f"the method's name cannot be sent: {_reason(error)}") from None


def _reason(error: PydanticSerializationError) -> str:
    """What pydantic says, without the name of what it caught."""
    return str(error).rpartition("Error: ")[2]


class Call:
    """A call from `Ledger.put` until its outcome is known. Without an id it is a notification.

    Attributes:
        deadline: in the caller's clock; math.inf for none.
        resend: whether it may be sent again after a lost connection.
        alone: whether it goes in a frame of its own, because the reply to a batch waits for its slowest call.
        was_sent: at least once.
        frame: the calls that were last sent in one frame with it, and itself.
    """

    __slots__ = ("alone", "deadline", "finish", "frame", "id", "key", "payload", "resend", "was_sent")

    def __init__(
        self, payload: bytes, finish: Finish, *, deadline: float = math.inf, resend: bool = True, alone: bool = False
    ) -> None:
        self.payload = payload
        self.finish = finish
        self.deadline = deadline
        self.resend = resend
        self.alone = alone
        self.was_sent = False
        self.frame: list[Call] = []
        self.key = 0
        self.id: int | None = None


_VALUES: Final = 131_072  # which each coordinator takes in a frame
_BYTES_A_VALUE: Final = 8  # one that takes larger frames takes more values
_VALUES_OF_A_BATCH: Final = 4


def _values(payload: bytes) -> int:
    """No fewer than a coordinator counts: a string counts as two, a list or an object as four."""
    count = payload.count
    return max(count(b'"'), count(b",") + count(b"[") + count(b"{"), 4 * (count(b"]") + count(b"}")))


class Ledger:
    """Calls that wait to be sent, in order, and those sent that wait for a reply.

    Every call waiting here has its caller waiting too, so neither can outgrow the callers.

    Args:
        max_in_flight: calls sent and unanswered; others wait.
        max_batch: calls in one frame.
        max_frame_bytes: size of one frame.
    """

    def __init__(self, *, max_in_flight: int, max_batch: int, max_frame_bytes: int) -> None:
        self._max_in_flight = max_in_flight
        self._max_batch = max_batch
        self._max_frame_bytes = max_frame_bytes
        self._max_values = max(_VALUES, max_frame_bytes // _BYTES_A_VALUE)
        self._unsent: OrderedDict[int, Call] = OrderedDict()
        self._sent: dict[int, Call] = {}
        self._last_key = 0

    def __len__(self) -> int:
        return len(self._unsent) + len(self._sent)

    def put(
        self,
        method: str,
        params: bytes | None,
        finish: Finish,
        *,
        deadline: float,
        resend: bool = True,
        alone: bool = False,
        first: bool = False,
        notification: bool = False,
    ) -> Call:
        """Line a call up, with `first` before all others.

        Raises:
            CallTooLarge: it does not fit a frame.
        """
        key = self._last_key = self._last_key + 1
        payload = _payload(method, params, None if notification else key)
        if len(payload) > self._max_frame_bytes:
            raise CallTooLarge(f"{method} takes {len(payload)} bytes; max_frame_bytes is {self._max_frame_bytes}")
        call = Call(payload, finish, deadline=deadline, resend=resend, alone=alone)
        call.key = key
        call.id = None if notification else key
        self._unsent[key] = call
        if first:
            self._unsent.move_to_end(key, last=False)
        return call

    def take(self) -> bytes | None:
        """The next frame, whose calls now count as sent; None while there is none or too many are in flight."""
        room = min(self._max_in_flight - len(self._sent), self._max_batch)
        bytes_left, values_left = self._max_frame_bytes - 2, self._max_values - _VALUES_OF_A_BATCH
        unsent = self._unsent
        taken: list[Call] = []
        while unsent and len(taken) < room:
            call = next(iter(unsent.values()))
            bytes_left -= len(call.payload) + 1
            values_left -= _values(call.payload) + 1
            if taken and (call.alone or bytes_left < 0 or values_left < 0):
                break
            del unsent[call.key]
            call.was_sent = True
            call.frame = taken
            taken.append(call)
            if call.id is not None:
                self._sent[call.key] = call
            if call.alone:
                break
        if not taken:
            return None
        frame = taken[0].payload if len(taken) == 1 else b"[%b]" % b",".join([call.payload for call in taken])
        for call in taken:
            if call.id is None:
                call.finish({"result": None})
        return frame

    def settle(self, reply: dict[str, Any], *, is_single: bool = True) -> None:
        """Hand a reply to its call; nobody waits for the reply of a call abandoned meanwhile.

        Args:
            is_single: the reply came by itself, not in a batch of them. If the call was sent in one, that is an error
                about the whole of it, for all its calls.
        """
        id = reply.get("id")
        if id is None:
            self._settle_all(reply)
            return
        call = self._sent.pop(id, None) if type(id) is int else None
        if call is None:
            return
        frame, call.frame = call.frame, []  # which refers to the call, so it would wait for the collector
        error = reply.get("error")
        if error is not None and is_single:
            for other in frame:
                if other.id is not None and self._sent.pop(other.key, None) is not None:
                    other.finish(reply)
        if type(error) is dict and not call.alone and error.get("code") == errors.ReplyTooLarge.code:
            # Only because of the company it was sent in; by itself there is no such limit.
            call.alone = True
            self._unsent[call.key] = call
            self._unsent.move_to_end(call.key, last=False)
            return
        call.finish(reply)

    def _settle_all(self, reply: dict[str, Any]) -> None:
        """An error without an id is about a whole frame, it is not said which."""
        sent, self._sent = self._sent, {}
        for call in sent.values():
            call.finish(reply)

    def abandon(self, call: Call) -> None:
        """Its caller waits no more."""
        self._unsent.pop(call.key, None)
        self._sent.pop(call.key, None)

    def connection_lost(self, why: str) -> None:
        """What was not answered is sent again, first and in the same order."""
        sent, self._sent = self._sent, {}
        for call in reversed(sent.values()):
            if call.resend:
                self._unsent[call.key] = call
                self._unsent.move_to_end(call.key, last=False)
        for call in sent.values():
            if not call.resend:
                call.finish(ConnectionLost(why))

    def expire(self, now: float, why: str) -> float:
        """End the calls whose deadline has passed; the next deadline."""
        following = math.inf
        for calls in (self._sent, self._unsent):
            late = [call for call in calls.values() if call.deadline <= now]
            for call in late:
                del calls[call.key]
                call.finish(NoReply(why, may_have_been_applied=call.was_sent))
            following = min(following, min((call.deadline for call in calls.values()), default=math.inf))
        return following

    def fail_all(self, error: Exception) -> None:
        calls = [*self._sent.values(), *self._unsent.values()]
        self._sent = {}
        self._unsent.clear()
        for call in calls:
            call.finish(error)
