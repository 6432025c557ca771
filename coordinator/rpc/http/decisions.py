"""What a request is, as its head says, and what is decided on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from coordinator.rpc.access.tokens import NOTHING, Shown
from coordinator.rpc.http.pages import Page
from coordinator.rpc.http.sessions import ChangeSession

__all__ = ["Answer", "Call", "Decision", "Headers", "Request", "ShowPage", "WebSocketUpgrade"]

Headers = tuple[tuple[bytes, bytes], ...]
"""The headers of a response: all but `content-length`, `date` and what concerns the connection."""


class Request(NamedTuple):
    """A request's head.

    Attributes:
        method: in upper case.
        target: as sent: a path with its query, an absolute URI, or `*`.
        headers: by lower-case names; the values of a repeated one joined by commas.
    """

    method: bytes
    target: bytes
    headers: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response.

    Attributes:
        body: none in the response to a HEAD, whose headers are as if it were.
    """

    status: int
    headers: Headers = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Call:
    """The request is a JSON-RPC message, which is its body.

    Attributes:
        coding: of the body; see `coding_of`.
        replied: the response to one that has a reply, without that.
        silent: the response to one that has none.
        unauthorized: the response to one of which nothing is done, for nobody has logged in; without the reply.
        host: by which the client has called us, in lower case.
        shown: what it has shown to say who it is. Both only where callers log in.
        told: where it is from as it tells; see Proxies.
        request_id: the one it has, if that can be shown.
        traceparent: the span it belongs to, if calls are traced.
    """

    coding: bytes
    replied: Answer
    silent: Answer
    unauthorized: Answer = Answer(401)
    host: str = ""
    shown: Shown = NOTHING
    told: str = ""
    request_id: str = ""
    traceparent: str = ""

    def is_by_whom(self, other: Call) -> bool:
        """Whether all that tells who makes it is what the other shows."""
        return self.shown == other.shown and self.told == other.told and self.host == other.host


@dataclass(frozen=True, slots=True)
class ShowPage:
    """The answer is a page, to be made at that time.

    Attributes:
        host: by which the client has called us, if it said.
        authorization: what the client has shown, for a page that not everybody sees; None: everybody sees it.
        told: where it is from as it tells; see Proxies.
    """

    page: Page
    headers: Headers
    host: str | None
    authorization: bytes | None = None
    told: str = ""


class WebSocketUpgrade(NamedTuple):
    """The connection is to be a WebSocket. Whether its client may is for the WebSocket front-end to say."""


Decision = Answer | Call | ShowPage | ChangeSession | WebSocketUpgrade
