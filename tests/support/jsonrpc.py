"""What JSON-RPC 2.0 demands of the reply to a message, judged from the bytes sent and the bytes received alone.

Source: https://www.jsonrpc.org/specification, and the README for our limits and for what `error.data` holds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import jsonschema

__all__ = ["MAX_BATCH", "MAX_DEPTH", "Due", "NotJson", "check_reply", "due", "read_json"]

MAX_BATCH: Final = 1000
MAX_DEPTH: Final = 200

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
INVALID_PARAMS: Final = -32602

_ABSENT: Final = object()


class NotJson(ValueError):
    """The bytes are no JSON that may be exchanged."""


@dataclass(frozen=True)
class Due:
    """A response that must come. `code` is the error it must be; None if that is for the method to decide."""

    id: Any
    code: int | None = None


def due(message: str | bytes) -> Due | list[Due] | None:
    """What must be answered to a message; None if nothing may be."""
    mark: Any = "\ufeff" if isinstance(message, str) else b"\xef\xbb\xbf"
    try:
        content = read_json(message.removeprefix(mark), halves=True)
    except NotJson:
        return Due(None, PARSE_ERROR)
    if not isinstance(content, list):
        return _due_to(content)
    if not 0 < len(content) <= MAX_BATCH:
        return Due(_first_id(content), INVALID_REQUEST)
    return [response for item in content if (response := _due_to(item)) is not None] or None


def _due_to(item: Any) -> Due | None:
    if not isinstance(item, dict):
        return Due(None, INVALID_REQUEST)
    id = item.get("id", _ABSENT)
    if id is not _ABSENT and not _may_be_id(id):
        return Due(None, INVALID_REQUEST)
    is_request = (
        item.get("jsonrpc") == "2.0"
        and isinstance(item.get("method"), str)
        and isinstance(item.get("params"), dict | list | None)
    )
    if not is_request:
        return Due(None if id is _ABSENT else id, INVALID_REQUEST)
    if id is _ABSENT:
        return None
    if _has_half(item):
        return Due(id, INVALID_PARAMS if _has_half(item.get("params")) else INVALID_REQUEST)
    return Due(id)


def _first_id(batch: list[Any]) -> Any:
    ids = [item["id"] for item in batch if isinstance(item, dict) and "id" in item]
    return next((id for id in ids if _may_be_id(id)), None)


def _has_half(content: Any) -> bool:
    """Whether there is half of a surrogate pair in it."""
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _may_be_id(id: Any) -> bool:
    if isinstance(id, float):
        return math.isfinite(id)
    return id is None or (isinstance(id, int | str) and not isinstance(id, bool))


def check_reply(message: str | bytes, reply: str | bytes | None) -> Any:
    """The reply, parsed, having made sure that it is exactly what the message calls for."""
    expected = due(message)
    if reply is None or expected is None:
        assert reply is None, f"a reply to what gets none: {reply!r}"
        assert expected is None, f"no reply, but {expected} is due"
        return None
    content = read_json(reply, _members_once, halves=True)
    if isinstance(expected, Due):
        _check_response(expected, content)
        return content
    assert isinstance(content, list), f"the reply to a batch is an array: {content!r}"
    assert len(content) == len(expected), f"{len(expected)} responses are due: {content!r}"
    for one_due, response in zip(expected, content, strict=True):
        _check_response(one_due, response)
    return content


def _check_response(expected: Due, response: Any) -> None:
    _RESPONSE.validate(response)
    id = response["id"]
    assert not _has_half({**response, "id": None}), f"half of a surrogate pair: {response}"
    assert type(id) is type(expected.id), f"id {id!r} instead of {expected.id!r}"
    assert id == expected.id
    code = response["error"]["code"] if "error" in response else None
    if expected.code is not None:
        assert code == expected.code, response
    else:
        assert code not in (PARSE_ERROR, INVALID_REQUEST), response


def read_json(
    data: str | bytes, object_of: Callable[[list[tuple[str, Any]]], Any] = dict, *, halves: bool = False
) -> Any:
    """Strictly: UTF-8 without byte order mark, no NaN, within the README's bounds, and no half of a surrogate pair
    unless `halves`.

    Raises:
        NotJson
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        text.encode()  # a half may only be there as an escape
        content = json.loads(text, parse_constant=_refuse, object_pairs_hook=object_of)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from None
    if not halves and _has_half(content):
        raise NotJson("half of a surrogate pair")
    if _depth(content) > MAX_DEPTH:
        raise NotJson("nested too deep")
    return content


def _refuse(constant: str) -> Any:
    raise NotJson(f"{constant} is not JSON")


def _members_once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(members)
    assert len(content) == len(members), f"a member twice: {members}"
    return content


def _depth(content: Any) -> int:
    depth, level = 0, [content]
    while level := [child for node in level for child in _children(node)]:
        depth += 1
    return depth


def _children(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        yield from node.values()
    elif isinstance(node, list):
        yield from node


def _object(*optional: str, **members: Any) -> dict[str, Any]:
    """The schema of an object of these members and no others."""
    return {
        "type": "object",
        "properties": members,
        "required": [name for name in members if name not in optional],
        "additionalProperties": False,
    }


_TEXT: Final = {"type": "string", "minLength": 1}
_INTEGER: Final = {"type": "integer"}
_KIND: Final = {"enum": ["actor", "context", "runner", "flow", "job", "message"]}
_IDS: Final = {"type": "object", "additionalProperties": _INTEGER, "minProperties": 1}
_PLACE: Final = {"type": "array", "items": {"type": ["string", "integer"]}}
_FAULT: Final = _object(loc=_PLACE, msg=_TEXT, type=_TEXT)

# -32603 is not among them: it would be a fault of the coordinator.
_ERRORS: Final = {
    PARSE_ERROR: ("Parse error", _object(detail=_TEXT)),
    INVALID_REQUEST: ("Invalid Request", _object("limit", "setting", detail=_TEXT, limit=_INTEGER, setting=_TEXT)),
    -32601: (
        "Method not found",
        _object("did_you_mean", detail=_TEXT, did_you_mean={"type": "array", "items": _TEXT, "minItems": 1}),
    ),
    -32602: ("Invalid params", {"type": "array", "items": _FAULT, "minItems": 1, "maxItems": 20}),
    -32001: ("Not Found", _object(kind=_KIND, ids=_IDS, detail=_TEXT)),
    -32010: ("Storage Error", _object(detail=_TEXT, may_have_been_applied={"type": "boolean"})),
    -32020: ("DAG Missing Dependency", _object(job=_INTEGER, missing=_INTEGER, detail=_TEXT)),
    -32021: (
        "DAG Cycle Detected",
        _object(cycle={"type": "array", "items": _INTEGER, "minItems": 1, "uniqueItems": True}, detail=_TEXT),
    ),
    -32030: ("Reply Too Large", _object(detail=_TEXT, limit=_INTEGER, setting=_TEXT)),
}
_VERSION: Final = {"const": "2.0"}
_ID: Final = {"type": ["string", "number", "null"]}
_ERROR: Final = {
    "oneOf": [
        _object(code={"const": code}, message={"const": message}, data=data)
        for code, (message, data) in _ERRORS.items()
    ]
}
_RESPONSE: Final = jsonschema.Draft7Validator(
    {"oneOf": [_object(jsonrpc=_VERSION, id=_ID, result={}), _object(jsonrpc=_VERSION, id=_ID, error=_ERROR)]}
)
