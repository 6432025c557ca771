"""JSON-RPC 2.0, sans-IO: bytes in, calls out; outcomes in, bytes out. Knows no methods.

Source: https://www.jsonrpc.org/specification
"""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json

from coordinator.errors import CoordinatorError, InvalidParams, InvalidRequest, ParseError
from coordinator.rpc.jsonrpc.surrogates import Halves, replace_halves

__all__ = [
    "NULL_ID",
    "RESULT",
    "Call",
    "Invalid",
    "about_calls",
    "first_id",
    "id_of",
    "parse",
    "render_batch",
    "render_error",
    "render_id",
    "render_large_batch",
    "without_mark",
]

NULL_ID: Final = b"null"
RESULT: Final = b'{"jsonrpc":"2.0","id":%b,"result":%b}'
"""A response, to be filled with the id and the result, each as JSON."""

LARGE_PIECE: Final = 64 * 1024  # bytes of what is not worth copying
MAX_HEAD: Final = 4096  # bytes of a message that are read to tell its first id

_JSON_BEGINS_WITH: Final = '{[ \t\r\n"-0123456789tfn'


class Call(NamedTuple):
    """A valid request object. `id` is JSON text, None for a notification; `traceparent` may be anything."""

    id: bytes | None
    method: str
    params: dict[str, Any] | list[Any]
    traceparent: Any = None


class Invalid(NamedTuple):
    """Something that cannot be called, and the error it is answered with. `id` is None if it gets no answer."""

    id: bytes | None
    error: CoordinatorError


def parse(data: str | bytes | bytearray, max_batch: int) -> Call | Invalid | list[Call | Invalid]:
    """Read one message: a call, or a batch of them in order. Never raises on bad input.

    A batch that is empty or longer than `max_batch` is one Invalid, as the specification has it for an empty one. Of a
    longer one that has the first id there is in it, so that somebody who waits for an answer gets one.
    """
    halves: Halves | None = None
    try:
        # In a large message keys are seldom the same, and to remember them takes longer than to read them.
        message = from_json(data, allow_inf_nan=False, cache_strings="keys" if len(data) < LARGE_PIECE else "none")
    except ValueError:
        try:
            message, halves = _read_again(without_mark(data))
        except ParseError as error:
            return Invalid(NULL_ID, error)
    if type(message) is dict:
        return _request(message) if halves is None else _item(message, halves)
    if type(message) is list and 0 < len(message) <= max_batch:
        return [*map(_request, message)] if halves is None else [_item(item, halves) for item in message]
    return _no_batch(message, halves, max_batch)


def without_mark(data: str | bytes | bytearray) -> str | bytes | bytearray:
    """The message without the byte order mark that some programs put before it."""
    return data.removeprefix("\ufeff") if isinstance(data, str) else data.removeprefix(b"\xef\xbb\xbf")


def first_id(head: bytes) -> bytes:
    """The first id in a message of which there is only the beginning, or that is not worth reading; else `null`.

    Looks at the first MAX_HEAD bytes. Never raises.
    """
    text = head[:MAX_HEAD]
    # A number that the end of the text cuts short must not pass for one, so that ends where a member did.
    text = text[: text.rfind(b",")] if b"," in text else b""
    try:
        message = from_json(without_mark(text), allow_inf_nan=False, allow_partial=True)
    except ValueError:
        return NULL_ID
    return _first_id(message if type(message) is list else [message], None)


def id_of(message: str | bytes | bytearray) -> bytes:
    """The id of a message that is not to be carried out, or the first in a batch, if it takes no time to tell; else
    `null`. Never raises."""
    is_whole = len(message) <= MAX_HEAD
    head = message[:MAX_HEAD]
    text = head.encode("utf-8", "replace") if isinstance(head, str) else bytes(head)
    if not is_whole:
        return first_id(text)
    try:
        read = from_json(without_mark(text), allow_inf_nan=False)
    except ValueError:
        return NULL_ID
    return _first_id(read if type(read) is list else [read], None)


def about_calls(message: str | bytes | bytearray) -> int:
    """How many calls a message holds, as far as that is to be told without reading it."""
    if isinstance(message, str):
        return message.count('"jsonrpc"') if message[:1] == "[" else 1
    return message.count(b'"jsonrpc"') if message[:1] == b"[" else 1


def _read_again(data: str | bytes | bytearray) -> tuple[Any, Halves | None]:
    """What the JSON says, and what tells the halves of surrogate pairs in it if there are any. Raises ParseError."""
    try:
        return _from_json(data), None
    except ValueError as error:
        reason = str(error)
    replaced = _with_placeholders(data)
    if replaced is not None:
        try:
            return _from_json(replaced[0]), replaced[1]
        except ValueError as error:
            # The place that this tells is not one in the message as it was sent.
            reason = str(error).partition(" at line ")[0]
    raise _not_json(data, reason)


_from_json: Final = partial(from_json, allow_inf_nan=False, cache_strings="keys")


def _with_placeholders(text: str | bytes | bytearray) -> tuple[bytes, Halves] | None:
    """See replace_halves."""
    try:
        return replace_halves(text.encode() if isinstance(text, str) else bytes(text))
    except UnicodeEncodeError:  # a str with a half that is not escaped
        return None


def _not_json(data: str | bytes | bytearray, reason: str) -> ParseError:
    if not isinstance(data, str):
        encoding = json.detect_encoding(bytes(data[:4]))  # of JSON, whose first characters are ASCII
        beginning = data[:8].decode(encoding, "replace").removeprefix("\ufeff")
        if not encoding.startswith("utf-8") and beginning[:1] in _JSON_BEGINS_WITH:
            return ParseError(f"not UTF-8 but {encoding[:6].upper()}; JSON is to be sent as UTF-8")
        try:
            data.decode()
        except UnicodeDecodeError as error:
            return ParseError(f"not UTF-8: {error.reason} at byte {error.start}")
    return ParseError(f"not JSON: {reason}")


def _no_batch(message: Any, halves: Halves | None, max_batch: int) -> Invalid:
    if type(message) is not list:
        return Invalid(NULL_ID, InvalidRequest("a request is an object, or an array of them"))
    if not message:
        return Invalid(NULL_ID, InvalidRequest("an empty batch"))
    too_long = InvalidRequest(
        f"a batch of {len(message)} calls; the limit is {max_batch}",
        limit=max_batch,
        setting="max_batch_length",
    )
    return Invalid(_first_id(message, halves), too_long)


_NO_PARAMS: Final[dict[str, Any]] = {}


def _item(item: Any, halves: Halves) -> Call | Invalid:
    return _spoiled(item, halves) if halves.are_in(item) else _request(item)


def _request(item: Any) -> Call | Invalid:
    if type(item) is not dict:
        return Invalid(NULL_ID, InvalidRequest("a request is an object"))
    id: bytes | None = None
    if "id" in item:
        id = render_id(item["id"])
        if id is None:
            return Invalid(NULL_ID, InvalidRequest("`id` is a string, a number or null"))
    if item.get("jsonrpc") != "2.0":
        return Invalid(id or NULL_ID, InvalidRequest('`jsonrpc` must be the string "2.0"'))
    method = item.get("method")
    if type(method) is not str:
        return Invalid(id or NULL_ID, InvalidRequest("`method` must be a string"))
    params = item.get("params")
    if params is None:
        params = _NO_PARAMS
    elif type(params) is not dict and type(params) is not list:
        return Invalid(id or NULL_ID, InvalidRequest("`params` must be an object or an array, or left out"))
    return Call(id, method, params, item.get("traceparent"))


def _spoiled(item: Any, halves: Halves) -> Invalid:
    """Something with half of a surrogate pair in it. A notification gets no answer, whatever is wrong with it."""
    request = _request(item)
    id = None if request.id is None else halves.restored(request.id)
    if isinstance(request, Invalid):
        return Invalid(id, request.error)
    what = "half of a surrogate pair: a text was cut in the middle of a character"
    if halves.are_in(request.params):
        return Invalid(id, InvalidParams.at(*halves.place_in(request.params), msg=what, type="string_unicode"))
    member = ".".join(map(str, halves.place_in(item)))
    return Invalid(id, InvalidRequest(f"`{member}` holds {what}" if member else what))


def _first_id(items: list[Any], halves: Halves | None) -> bytes:
    for item in items:
        id = render_id(item["id"]) if type(item) is dict and "id" in item else None
        if id is not None:
            return id if halves is None else halves.restored(id)
    return NULL_ID


def render_id(id: Any) -> bytes | None:
    """The id as JSON text; None if it may not be one."""
    kind = type(id)
    if kind is int:
        return b"%d" % id
    if kind is str or id is None or (kind is float and math.isfinite(id)):
        return to_json(id)
    return None


def render_error(id: bytes, error: CoordinatorError) -> bytes:
    body = to_json({"code": error.code, "message": error.message, "data": error.data})
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id, body)


def render_notification(method: str, params: Any) -> bytes:
    return to_json({"jsonrpc": "2.0", "method": method, "params": params})


def render_batch(responses: list[bytes]) -> bytes:
    return b"[%b]" % b",".join(responses)


def render_large_batch(responses: list[bytes]) -> list[bytes]:
    """The same in pieces: small responses are joined, large ones are not copied. `responses` is empty afterwards."""
    responses.reverse()
    pieces: list[bytes] = []
    small: list[bytes] = [b"["]
    size = 0
    while responses:
        response = responses.pop()
        if len(response) >= LARGE_PIECE or size >= LARGE_PIECE:
            pieces.append(b"".join(small))
            small, size = [], 0
        if len(response) >= LARGE_PIECE:
            pieces.append(response)
        else:
            small.append(response)
            size += len(response)
        small.append(b"," if responses else b"]")
    pieces.append(b"".join(small))
    return pieces
