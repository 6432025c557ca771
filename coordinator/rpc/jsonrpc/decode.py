"""From a message's bytes to calls whose params are valid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any, Final, Literal, NotRequired

import structlog
from pydantic import Discriminator, FailFast, StrictFloat, StrictInt, StrictStr, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from coordinator.errors import CoordinatorError, InternalError, InvalidParams, InvalidRequest, MethodNotFound
from coordinator.rpc.jsonrpc import protocol
from coordinator.rpc.jsonrpc.counting import MAX_VALUES, has_more_values
from coordinator.rpc.jsonrpc.suggestions import Suggestions
from coordinator.rpc.methods.method import Method
from coordinator.rpc.openrpc import ServedDocument
from coordinator.tracing import is_traceparent

__all__ = ["DISCOVER", "Item", "Reader", "TracedItem", "TracedReader"]

log = structlog.get_logger("coordinator.rpc")

DISCOVER: Final = "rpc.discover"
LARGE_BATCH: Final = 128 * 1024  # bytes of a batch that takes milliseconds to read in one go
LARGE_CALL: Final = 64 * 1024
_OPENING_BRACES: Final = ("{", b"{")
_OPENING_BRACKETS: Final = ("[", b"[")

Item = tuple[bytes | None, Method | None, Any]
"""A call: its id as JSON text, None for a notification; its method; its params, a model. Or one whose outcome is known
already: its id, None, and that Outcome, or the document that it is."""


class Reader:
    """Reads the messages of clients.

    Most are read in one go: pydantic makes the models of the calls' params straight from the JSON, which is less than
    half of the work of parsing first. What it does not take (other forms of params, and whatever is wrong) is read
    again by `protocol` and the methods' ParamsReader, which know what to say.

    Args:
        methods: by name.
        max_batch: calls in one batch.
        document: what rpc.discover answers; the one that names the default ports unless given.
        max_values: values in a message; of strings it may have half as many, of lists and objects a quarter.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        max_batch: int,
        document: ServedDocument | None = None,
        max_values: int = MAX_VALUES,
    ) -> None:
        self._methods = methods
        self._document = ServedDocument() if document is None else document
        self._max_batch = max_batch
        self._max_values = max_values
        self._suggestions = Suggestions([*methods, DISCOVER])
        types = [self._call_type(method) for method in methods.values() if method.reader.has_one_form]
        call: Any = Annotated[reduce(or_, types), Discriminator("method")]
        self._validate_call = TypeAdapter(call).validator.validate_json
        self._validate_batch = TypeAdapter(Annotated[list[call], FailFast()]).validator.validate_json

    def _call_type(self, method: Method) -> Any:
        return _call_type(method)

    def knows(self, method: str) -> bool:
        """Whether there is a method of this name."""
        return method in self._methods or method == DISCOVER

    def read(self, data: str | bytes | bytearray, *, in_parts: bool = False) -> tuple[int | None, Iterable[Item]]:
        """A message's calls in order, and how many there are if it is a batch. Never raises on bad input.

        They may be looked at one by one as they are asked for. So it is with `in_parts` if the batch is large: that is
        more work in all, but others get on in between. Params that are large are then read in parts as well, for
        another thread.
        """
        if has_more_values(data, self._max_values):
            return None, [self._too_many_values(data)]
        text = data
        is_batch = text[:1] not in _OPENING_BRACES
        if is_batch and text[:1] not in _OPENING_BRACKETS:
            text = _from_opening(data)
            is_batch = text[:1] not in _OPENING_BRACES
        if not is_batch and len(text) > LARGE_CALL:
            unknown = self._unknown_method(text)
            if unknown is not None:
                return None, [unknown]
        try:
            if not _may_hold_nan(text):
                if not is_batch and not (in_parts and len(text) > LARGE_CALL):
                    return None, [self._item_of(self._validate_call(text))]
                if in_parts and len(text) > (LARGE_BATCH if is_batch else LARGE_CALL):
                    raise _InParts
                batch = self._validate_batch(text)
                if 0 < len(batch) <= self._max_batch:
                    return len(batch), [self._item_of(call) for call in batch]
        except (ValidationError, InvalidParams, _OddId, _InParts):
            pass
        message = protocol.parse(data, self._max_batch)
        if isinstance(message, list):
            return len(message), map(self._look_at, message)
        return None, [self._look_at(message)]

    def _too_many_values(self, data: str | bytes | bytearray) -> Item:
        head = data[: protocol.MAX_HEAD]
        id = protocol.first_id(head.encode(errors="replace") if isinstance(head, str) else bytes(head))
        limit = self._max_values
        fault = InvalidRequest(
            f"a message of more than {limit} values, or half as many strings, or a quarter as many lists and objects; "
            "send it in parts",
            limit=limit,
        )
        return id, None, fault

    def _unknown_method(self, text: str | bytes | bytearray) -> Item | None:
        """The outcome of a call of a method there is not, whose params would become objects only to be dropped."""
        try:
            head = _validate_head(text)
        except ValidationError:
            return None
        name = head["method"]
        if name in self._methods or name == DISCOVER:
            return None
        id = protocol.render_id(head["id"]) if "id" in head else None
        fault = MethodNotFound(name, self._suggestions.like(name))
        fault.method = name
        return id, None, fault

    def _item_of(self, call: dict[str, Any]) -> Item:
        method = self._methods[call["method"]]
        params = call["params"]
        if method.payload_member is not None:
            method.reader.check_context(params)
        if "id" not in call:
            return None, method, params
        id = protocol.render_id(call["id"])
        if id is None:
            raise _OddId
        return id, method, params

    def _look_at(self, item: protocol.Call | protocol.Invalid) -> Item:
        if isinstance(item, protocol.Invalid):
            return item.id, None, item.error
        try:
            method = self._methods.get(item.method)
            if method is not None:
                return item.id, method, method.reader.read(item.params)
            if item.method == DISCOVER:
                return item.id, None, self._document
            raise MethodNotFound(item.method, self._suggestions.like(item.method))
        except CoordinatorError as error:
            error.method = item.method
            return item.id, None, error
        except Exception:
            fault = InternalError()
            fault.method = item.method
            log.exception("a call could not be read", incident=fault.incident, method=item.method)
            return item.id, None, fault


class TracedItem(tuple[bytes | None, Method | None, Any]):
    """An Item that names the span its caller has made it in.

    Attributes:
        traceparent: that.
    """

    traceparent: str


class TracedReader(Reader):
    """Reads the member `traceparent` of request objects, too."""

    def _call_type(self, method: Method) -> Any:
        return _call_type(method, traceparent=NotRequired[Any])

    def _item_of(self, call: dict[str, Any]) -> Item:
        return _traced(super()._item_of(call), call.get("traceparent"))

    def _look_at(self, item: protocol.Call | protocol.Invalid) -> Item:
        read = super()._look_at(item)
        return read if isinstance(item, protocol.Invalid) else _traced(read, item.traceparent)


def _traced(item: Item, traceparent: Any) -> Item:
    """With what names a span, if this does."""
    if not is_traceparent(traceparent):
        return item
    traced = TracedItem(item)
    traced.traceparent = traceparent
    return traced


def _from_opening(data: str | bytes | bytearray) -> str | bytes | bytearray:
    """A message without what may stand before its first brace or bracket."""
    text = protocol.without_mark(data)
    return text.lstrip(" \t\r\n") if isinstance(text, str) else text.lstrip(b" \t\r\n")


def _may_hold_nan(data: str | bytes | bytearray) -> bool:
    """Whether there may be numbers in it that pydantic knows, but not JSON."""
    if isinstance(data, str):
        return "NaN" in data or "Infinity" in data
    return b"NaN" in data or b"Infinity" in data


class _Head(TypedDict):
    """A request object but its params."""

    jsonrpc: Literal["2.0"]
    id: NotRequired[StrictInt | StrictFloat | StrictStr | None]
    method: StrictStr


_validate_head: Final = TypeAdapter(_Head).validator.validate_json


class _InParts(Exception):
    """The calls of a batch are to be looked at one by one."""


class _OddId(Exception):
    """An id is neither a string nor a number nor null."""


def _call_type(method: Method, **more: Any) -> Any:
    """The type of this method's request objects whose params are the params object."""
    members = {
        "jsonrpc": Literal["2.0"],
        "id": NotRequired[Any],
        "method": Literal[method.name],
        "params": method.params,
        **more,
    }
    return TypedDict(method.name, members)  # type: ignore[operator] # made of what the table says
