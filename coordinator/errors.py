"""One exception hierarchy for the whole product, each class with its JSON-RPC code and message.

Errors are raised where they are known, with the data a caller needs; `rpc.protocol` is the only place that
turns them into a wire format. `data` is always JSON-serialisable.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

__all__ = [
    "DOCUMENTED_ERRORS",
    "BeingDeleted",
    "Conflict",
    "CoordinatorError",
    "DagCycleDetected",
    "DagMissingDependency",
    "Forbidden",
    "InternalError",
    "InvalidParams",
    "InvalidRequest",
    "MethodNotFound",
    "NotFound",
    "NotLoggedIn",
    "NotSubscribed",
    "Overloaded",
    "ParseError",
    "ReplyTooLarge",
    "StaleToken",
    "StorageError",
    "WebSocketRequired",
]


class CoordinatorError(Exception):
    """Base of every error a client may be answered with.

    `code` and `message` are the JSON-RPC error's; `data` explains this one occurrence. `method`: the call's, where who
    answers it knows no more than this error.
    """

    code: ClassVar[int] = -32603
    message: ClassVar[str] = "Internal error"
    method: str | None = None

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        self.data = data


class ParseError(CoordinatorError):
    """The bytes are not JSON (or not UTF-8, or nested too deeply)."""

    code = -32700
    message = "Parse error"

    def __init__(self, detail: str) -> None:
        super().__init__({"detail": detail})


class InvalidRequest(CoordinatorError):
    """The JSON is not a JSON-RPC 2.0 request object, or exceeds a limit. `more` names that limit."""

    code = -32600
    message = "Invalid Request"

    def __init__(self, detail: str, **more: Any) -> None:
        super().__init__({"detail": detail, **more})


class MethodNotFound(CoordinatorError):
    code = -32601
    message = "Method not found"

    def __init__(self, method: str, suggestions: Sequence[str] = ()) -> None:
        data: dict[str, Any] = {"detail": f"there is no method {method[:100]!r}; rpc.discover lists them all"}
        if suggestions:
            data["did_you_mean"] = list(suggestions)
        super().__init__(data)


class InvalidParams(CoordinatorError):
    """`data` is a list of `{loc, msg, type}`, one entry a fault, as pydantic reports them."""

    code = -32602
    message = "Invalid params"

    def __init__(self, faults: Sequence[Mapping[str, Any]]) -> None:
        super().__init__([dict(fault) for fault in faults])

    @classmethod
    def at(cls, *loc: str | int, msg: str, type: str) -> InvalidParams:
        """With the one fault that is at this place."""
        return cls([{"loc": [*loc], "msg": msg, "type": type}])


class InternalError(CoordinatorError):
    """A fault of ours. Details go to the log under `incident`, not to the client."""

    code = -32603
    message = "Internal error"

    def __init__(self) -> None:
        self.incident = uuid.uuid4().hex[:12]
        super().__init__(
            {"detail": "the coordinator failed on this request; its log has the cause", "incident": self.incident}
        )


class NotFound(CoordinatorError):
    """No record of this kind is stored under these ids."""

    code = -32001
    message = "Not Found"

    def __init__(self, kind: str, **ids: int) -> None:
        listed = ", ".join(f"{name} {value}" for name, value in ids.items())
        super().__init__({"kind": kind, "ids": ids, "detail": f"no {kind} with {listed}"})


class NotLoggedIn(CoordinatorError):
    """Nobody has logged in, or what was shown for it is not good, or no longer."""

    code = -32002
    message = "Not Logged In"

    def __init__(self, detail: str) -> None:
        super().__init__({"detail": detail})


class Forbidden(CoordinatorError):
    """Who has logged in may not do this. `right`: what that takes."""

    code = -32003
    message = "Forbidden"

    def __init__(self, detail: str, right: str, **more: Any) -> None:
        super().__init__({"detail": detail, "right": right, **more})


class StorageError(CoordinatorError):
    """The store did not do it. `may_have_been_applied`: a write was sent, its outcome is not known."""

    code = -32010
    message = "Storage Error"

    def __init__(self, detail: str, *, may_have_been_applied: bool = False) -> None:
        super().__init__({"detail": detail, "may_have_been_applied": may_have_been_applied})


class ClientLeft(StorageError):
    """The client has left before the call had an outcome."""

    detail = "the client has left; it may have been carried out"

    def __init__(self) -> None:
        super().__init__(self.detail, may_have_been_applied=True)


class BeingDeleted(StorageError):
    """The context is being deleted: nothing is done in it, and then there is none."""

    def __init__(self, context: int | None) -> None:
        super().__init__(f"context {context} is being deleted; when that is done, what is created in it is new")


class ReplyTooLarge(CoordinatorError):
    """What the call has read is more than a reply may hold.

    By default: a batch whose replies together exceed `limit` bytes; this call was carried out, its reply left out.
    """

    code = -32030
    message = "Reply Too Large"

    def __init__(self, limit: int, detail: str | None = None, **more: Any) -> None:
        if detail is None:
            detail = f"the replies to this batch exceed {limit} bytes; the call was carried out, its reply is left out"
            more = {"setting": "max_batch_reply_bytes"}
        super().__init__({"detail": detail, "limit": limit, **more})


class DagMissingDependency(CoordinatorError):
    """`job` depends on `missing`, which is not a job of the flow."""

    code = -32020
    message = "DAG Missing Dependency"

    def __init__(self, job: int, missing: int) -> None:
        detail = f"job {job} depends on job {missing}, which is not in the flow"
        super().__init__({"job": job, "missing": missing, "detail": detail})


class DagCycleDetected(CoordinatorError):
    """`cycle` are the jobs of one cycle: each is a dependency of the next, the last one of the first."""

    code = -32021
    message = "DAG Cycle Detected"

    def __init__(self, cycle: Sequence[int]) -> None:
        shown = [*map(str, cycle[:20]), *(["…"] if len(cycle) > 20 else []), str(cycle[0])]
        super().__init__({"cycle": list(cycle), "detail": "jobs wait for each other: " + " → ".join(shown)})


class Conflict(CoordinatorError):
    """The record is in a state that does not allow this. `more` says what stands in the way."""

    code = -32040
    message = "Conflict"

    def __init__(self, detail: str, **more: Any) -> None:
        super().__init__({"detail": detail, **more})


class StaleToken(CoordinatorError):
    """The attempt has ended, was lost or cancelled; nothing was changed."""

    code = -32041
    message = "Stale Attempt Token"

    def __init__(self, token: str) -> None:
        super().__init__({"detail": "the attempt has ended, was lost or was cancelled", "token": token})


class NotSubscribed(CoordinatorError):
    """There is no such subscription on this connection."""

    code = -32042
    message = "Not Subscribed"

    def __init__(self, subscription: str) -> None:
        super().__init__({"detail": "no such subscription on this connection", "subscription": subscription})


class Overloaded(CoordinatorError):
    """More subscriptions, waiting calls, calls or bytes than `setting` allows. `more` tells when that changes."""

    code = -32043
    message = "Overloaded"

    def __init__(self, detail: str, limit: float, setting: str, **more: Any) -> None:
        super().__init__({"detail": detail, "limit": limit, "setting": setting, **more})


class WebSocketRequired(CoordinatorError):
    """A method that sends notifications was called over HTTP."""

    code = -32044
    message = "WebSocket Required"

    def __init__(self, instead: str) -> None:
        super().__init__({"detail": f"notifications need a WebSocket; over HTTP use {instead}"})


DOCUMENTED_ERRORS: dict[str, type[CoordinatorError]] = {
    cls.__name__: cls
    for cls in (
        InvalidParams,
        NotFound,
        StorageError,
        DagMissingDependency,
        DagCycleDetected,
        Conflict,
        StaleToken,
        NotSubscribed,
        Overloaded,
        WebSocketRequired,
        NotLoggedIn,
        Forbidden,
        ReplyTooLarge,
        ParseError,
        InvalidRequest,
        MethodNotFound,
        InternalError,
    )
}
"""All errors, by their names in the OpenRPC document."""
