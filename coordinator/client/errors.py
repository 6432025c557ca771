"""What a call can fail with. Error replies are classes named as in `coordinator.errors`, with the codes there."""

from __future__ import annotations

from typing import Any, Final

import trio

from coordinator import errors

__all__ = [
    "TRANSIENT",
    "CallTooLarge",
    "CannotBeSent",
    "CannotConnect",
    "ClientClosed",
    "ClientError",
    "Conflict",
    "ConnectionLost",
    "DagCycleDetected",
    "DagMissingDependency",
    "Forbidden",
    "InternalError",
    "InvalidParams",
    "InvalidRequest",
    "MethodNotFound",
    "NoReply",
    "NotFound",
    "NotLoggedIn",
    "NotSubscribed",
    "Overloaded",
    "ParseError",
    "ReplyTooLarge",
    "RpcError",
    "StaleToken",
    "StorageError",
    "WebSocketRequired",
    "rpc_error",
]


class ClientError(Exception):
    """Base of all of them."""


class NoReply(ClientError, trio.TooSlowError):
    """The call's deadline passed.

    Attributes:
        may_have_been_applied: false if it was never sent.
    """

    def __init__(self, detail: str, *, may_have_been_applied: bool) -> None:
        super().__init__(detail)
        self.may_have_been_applied = may_have_been_applied


class ConnectionLost(ClientError):
    """The connection ended before the answer to a call that must not be sent twice (`resend=False`)."""


class CannotConnect(ClientError):
    """There was no connection for `give_up_after` seconds; the client has ended.

    Attributes:
        denied: what listens there has answered that it does not let us in: it knows no such token or key, say.
    """

    def __init__(self, detail: str, *, denied: bool = False) -> None:
        super().__init__(detail)
        self.denied = denied


class ClientClosed(ClientError, trio.ClosedResourceError):
    """The client has been closed."""


class CallTooLarge(ClientError, ValueError):
    """The call alone exceeds `max_frame_bytes`; it was not sent."""


class CannotBeSent(ClientError, ValueError):
    """The method or its params are nothing that JSON has, such as half of a surrogate pair; nothing was sent."""


class RpcError(ClientError):
    """The call was answered with an error.

    Attributes:
        code, message, data: those of the reply.
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    @property
    def detail(self) -> str:
        """`data` in words; empty if it has none."""
        if isinstance(self.data, dict):
            return str(self.data.get("detail", ""))
        if isinstance(self.data, list):
            return "; ".join(map(_fault, self.data))
        return ""

    def __str__(self) -> str:
        return f"{self.message} ({self.code})" + (f": {self.detail}" if self.detail else "")


def _fault(fault: Any) -> str:
    if not isinstance(fault, dict):
        return str(fault)
    place = ".".join(map(str, fault.get("loc", [])))
    return f"{place}: {fault.get('msg')}" if place else str(fault.get("msg"))


class ParseError(RpcError):
    pass


class InvalidRequest(RpcError):
    pass


class MethodNotFound(RpcError):
    pass


class InvalidParams(RpcError):
    pass


class InternalError(RpcError):
    pass


class NotFound(RpcError):
    pass


class StorageError(RpcError):
    @property
    def may_have_been_applied(self) -> bool:
        return isinstance(self.data, dict) and bool(self.data.get("may_have_been_applied"))


class ReplyTooLarge(RpcError):
    pass


class DagMissingDependency(RpcError):
    pass


class DagCycleDetected(RpcError):
    pass


class Conflict(RpcError):
    pass


class StaleToken(RpcError):
    pass


class NotSubscribed(RpcError):
    pass


class NotLoggedIn(RpcError):
    pass


class Forbidden(RpcError):
    pass


class Overloaded(RpcError):
    pass


class WebSocketRequired(RpcError):
    pass


TRANSIENT: Final = (StorageError, Overloaded, InternalError, NoReply)
"""What a call may be answered with that is worth calling again."""

_BY_CODE: Final[dict[int, type[RpcError]]] = {
    getattr(errors, cls.__name__).code: cls for cls in RpcError.__subclasses__()
}


def rpc_error(error: Any) -> RpcError:
    """The exception for the `error` member of a reply."""
    if not isinstance(error, dict) or type(error.get("code")) is not int:
        return RpcError(errors.InternalError.code, "not a JSON-RPC error", error)
    code = error["code"]
    return _BY_CODE.get(code, RpcError)(code, str(error.get("message", "")), error.get("data"))
