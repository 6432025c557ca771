"""What can go wrong between us and the store, and the one place that tells which is which."""

from __future__ import annotations

import re
import ssl
from typing import Final

import hiredis
import trio

from coordinator.redaction import redact

__all__ = [
    "NO_LIBRARY",
    "NO_REPLICAS",
    "OUT_OF_MEMORY",
    "REPLY_LOST",
    "TRANSPORT_ERRORS",
    "EmbeddedFailed",
    "ReplyError",
    "ReplyNotKept",
    "StoreMisconfigured",
    "StoreUnavailable",
    "explain_refusal",
    "is_library_fault",
    "is_moving",
    "is_transient",
    "is_write_refusal",
]


class StoreUnavailable(Exception):
    """The store cannot be reached or did not answer; trying again later makes sense."""


class StoreMisconfigured(Exception):
    """The store answers, but as set up it will never serve this: wrong password, database out of range, too old."""


class EmbeddedFailed(Exception):
    """The embedded Valkey did not start; the text says what it printed."""


_ECHO: Final = re.compile(r",? with args beginning with.*", re.S)
"""A server that does not know a command quotes its arguments, and those of HELLO are the password."""


class ReplyError(Exception):
    """An error reply to one command, without secrets. Passed around as a value, as it comes from the reader."""

    def __init__(self, text: str = "") -> None:
        super().__init__(redact(_ECHO.sub("", text)))


class ReplyNotKept(ReplyError):
    """Stands for the reply to a write that was applied, if the store has not kept it."""

    def __init__(self) -> None:
        super().__init__(
            "the write was applied, but the connection to the store was lost before the reply came, and that was too "
            "large for the store to keep; load the record to see what it is now"
        )


TRANSPORT_ERRORS: Final = (
    OSError,
    ssl.SSLError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
    hiredis.ProtocolError,
)

NO_LIBRARY: Final = "ERR Function not found"

# What a cluster answers while the keys are on their way to another node, and this one still is who tells us.
_MOVING: Final = ("ASK ", "TRYAGAIN")

# Error codes after which the same command may succeed on a new connection: the server is starting, failing over,
# was emptied of functions or of who writes, or is busy with a script; or the keys are on another node of the cluster.
_TRANSIENT: Final = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    *_MOVING,
    "MOVED",
    "BUSY",
    "NOREPLICAS",
    "FENCED",
    NO_LIBRARY,
    "ERR max number of clients",  # of a cluster it goes on with other words
)

_IN_LIBRARY: Final = re.compile(r"(?:ERR )?@?user_function:\d+: ")

# What a server puts around an error that the library words itself.
_PLACE_IN_LIBRARY: Final = re.compile(r"^ERR (?=.* script: on @)| script: on @?user_function:\d+\.?$", re.DOTALL)

REPLY_LOST: Final = "the connection to the store was lost"


NO_REPLICAS: Final = "NOREPLICAS"
"""What an embedded Valkey answers while it takes no writes; see embedded.py."""

OUT_OF_MEMORY: Final = "OOM"

_CANNOT_SAVE: Final = "MISCONF"  # Valkey could not write its own files


def is_write_refusal(error: ReplyError) -> bool:
    """Whether the store refuses whatever writes, or needs more memory, and still answers reads."""
    return str(error).startswith((NO_REPLICAS, OUT_OF_MEMORY, _CANNOT_SAVE))


def explain_refusal(error: ReplyError) -> str:
    """An error reply in a caller's words."""
    text = str(error)
    if text.startswith(OUT_OF_MEMORY):
        return (
            "the store is out of memory: delete or cancel something, which it still does, or raise its maxmemory "
            f"(it says: {text})"
        )
    if text.startswith(_CANNOT_SAVE):
        reason = text.rpartition(": ")[2] if text.startswith("MISCONF Errors writing to the AOF file") else text
        return f"the store takes no writes now: {reason[:1].lower() + reason[1:] if reason != text else text}"
    return f"the store refused: {_PLACE_IN_LIBRARY.sub('', text)}"


def is_library_fault(error: ReplyError) -> bool:
    """Whether the function library is at fault: the text names a place in it, as Lua begins what it raises."""
    return _IN_LIBRARY.match(str(error)) is not None


_DELETING: Final = "DELETING"


def is_deleting(error: ReplyError) -> bool:
    """Whether the context is being deleted, so that nothing is done in it."""
    return str(error).startswith(_DELETING)


def is_transient(error: ReplyError) -> bool:
    return str(error).startswith(_TRANSIENT)


def is_moving(fault: str) -> bool:
    """Whether an error reply says that a cluster is moving the keys just now: the node is the right one until it says
    MOVED."""
    return fault.startswith(_MOVING)
