"""One call for every client here to post, and whether it was carried out."""

from __future__ import annotations

from typing import Any, Final

from tests.support.clients import json_text, request

__all__ = ["CALL", "MAX_BODY", "NOT_FOUND", "answered"]

CALL: Final = json_text(request("actor.load", {"id": 0}, 7)).encode()
MAX_BODY: Final = 1024 * 1024
NOT_FOUND: Final = -32001


def answered(reply: Any) -> bool:
    """Whether our call was carried out."""
    return bool(reply["id"] == 7 and reply["error"]["code"] == NOT_FOUND)
