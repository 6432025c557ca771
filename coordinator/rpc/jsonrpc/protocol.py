"""JSON-RPC 2.0, sans-IO: bytes in, calls out; outcomes in, bytes out. Knows no methods.

Source: https://www.jsonrpc.org/specification
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json

from coordinator.errors import CoordinatorError, InvalidRequest, ParseError

__all__ = ["NULL_ID", "Call", "Invalid", "parse", "render_batch", "render_error", "render_id", "render_result"]

NULL_ID: Final = b"null"


class Call(NamedTuple):
    """A valid request object. `id` is JSON text, None for a notification."""

    id: bytes | None
    method: str
    params: dict[str, Any] | list[Any]


class Invalid(NamedTuple):
    """Something that is not a request object, and the error it is answered with."""

    id: bytes
    error: CoordinatorError


def parse(data: str | bytes | bytearray, max_batch: int) -> Call | Invalid | list[Call | Invalid]:
    """Read one message: a call, or a batch of them in order. Never raises on bad input.

    A batch that is empty or longer than `max_batch` is one Invalid, as the specification has it for an empty one.
    """
    try:
        message = from_json(data, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        return Invalid(NULL_ID, ParseError(f"not JSON: {error}"))
    if type(message) is dict:
        return _request(message)
    if type(message) is not list:
        return Invalid(NULL_ID, InvalidRequest("a request is an object, or an array of them"))
    if not message:
        return Invalid(NULL_ID, InvalidRequest("an empty batch"))
    if len(message) > max_batch:
        too_long = InvalidRequest(
            f"a batch of {len(message)} calls; the limit is {max_batch}",
            limit=max_batch,
            setting="max_batch_length",
        )
        return Invalid(NULL_ID, too_long)
    return [_request(item) for item in message]


_NO_PARAMS: Final[dict[str, Any]] = {}


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
    params = item.get("params", _NO_PARAMS)
    if type(params) is not dict and type(params) is not list:
        return Invalid(id or NULL_ID, InvalidRequest("`params` must be an object or an array, or left out"))
    return Call(id, method, params)


def render_id(id: Any) -> bytes | None:
    """The id as JSON text; None if it may not be one."""
    kind = type(id)
    if kind is int:
        return b"%d" % id
    if kind is str or id is None or (kind is float and math.isfinite(id)):
        return to_json(id)
    return None


def render_result(id: bytes, result: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, result)


def render_error(id: bytes, error: CoordinatorError) -> bytes:
    body = to_json({"code": error.code, "message": error.message, "data": error.data})
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id, body)


def render_batch(responses: list[bytes]) -> bytes:
    """The array of these, of which there is one at least. They are copied once: a batch may be large."""
    first, last = b"[" + responses[0], responses[-1] + b"]"
    if len(responses) == 1:
        return first + b"]"
    return b",".join([first, *responses[1:-1], last])
