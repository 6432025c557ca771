"""The messages that a load generator sends, and what counts as their answer. Pure: no sockets, no clocks."""

from __future__ import annotations

import json
from typing import Any, Final, Literal, NamedTuple

__all__ = [
    "CALLER",
    "JOBS",
    "STAMPS",
    "BadReply",
    "Expectation",
    "Kind",
    "Message",
    "Refused",
    "job",
    "message",
    "render",
]

Kind = Literal["load", "create"]

JOBS: Final = 100  # jobs of a context; calls go round them
CALLER: Final = 7
STAMPS: Final = ("created_at", "updated_at")
_ADDED: Final = {*STAMPS, "result", "status"}  # members a stored job has beside those that were sent
_BEGINNING: Final = b'{"jsonrpc":"2.0","id":'


class BadReply(Exception):
    """A reply that is not what was asked for."""


class Refused(BadReply):
    """A message was answered with errors.

    Attributes:
        slot: its place in the window.
        code, reason: the first error's.
        again_after: seconds after which the server wants to be asked again; 0 if it does not say.
    """

    def __init__(self, slot: int, error: dict[str, Any]) -> None:
        super().__init__(f"refused: {json.dumps(error)[:500]}")
        self.slot = slot
        self.code: int = error["code"]
        self.reason = str(error.get("message", ""))
        data = error.get("data")
        self.again_after = float(data.get("retry_after", 0.0)) if isinstance(data, dict) else 0.0


class Message(NamedTuple):
    """One HTTP body or WebSocket frame."""

    payload: bytes
    jobs: list[dict[str, Any]]
    """The jobs its calls load or create, in order."""


def render(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def job(context: int, number: int, caller: int = CALLER) -> dict[str, Any]:
    """What a call with this number creates, or loads."""
    return {
        "id": 1 + number % JOBS,
        "caller_id": caller,
        "context_id": context,
        "script": "print(1)",
        "script_type": "Python",
        "timeout": 60,
        "retries": 2,
        "env_vars": {},
        "prerequisites": [],
        "depends": [],
    }


def _call(kind: Kind, call_id: int, job: dict[str, Any]) -> dict[str, Any]:
    params: dict[str, Any]
    if kind == "load":
        params = {"context_id": job["context_id"], "caller_id": job["caller_id"], "id": job["id"]}
    else:
        params = {"context_id": job["context_id"], "job": job}
    return {"jsonrpc": "2.0", "id": call_id, "method": f"job.{kind}", "params": params}


def message(
    kind: Kind, batch: int, context: int, slot: int, caller: int = CALLER, *, nth: int | None = None
) -> Message:
    """The message in place `slot` of a connection's window: a call, or `batch` of them if that is more than one.

    The ids of its calls begin with `slot * batch`, so a reply tells its slot. `nth`: it is the connection's message
    of this number in this context, counted from 0, which says which jobs it is about; None: it has one context.
    """
    numbers = range(slot * batch, (slot + 1) * batch)
    first = (slot if nth is None else nth) * batch
    jobs = [job(context, first + at, caller) for at in range(batch)]
    calls = [_call(kind, number, job) for number, job in zip(numbers, jobs, strict=True)]
    return Message(render(calls[0] if batch == 1 else calls), jobs)


class Expectation:
    """Tells the good replies of one connection from bad ones. In the generator's hot path, so it is quick:
    every reply is recognised by its beginning and the number of its results, and each message's first is read in full.
    """

    sign = b',"result":{"id":'
    """What follows the id of a call in its reply. A job has a member named result as well, which is empty."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages
        self._unread = set(range(len(messages)))
        self._batch = len(messages[0].jobs)
        self._beginning = _BEGINNING if self._batch == 1 else b"[" + _BEGINNING

    def slot(self, reply: bytes) -> int:
        """The place in the window that `reply` answers. Raises BadReply."""
        begin = len(self._beginning)
        end = reply.find(b",", begin)
        if not reply.startswith(self._beginning) or not reply.startswith(self.sign, end):
            raise self._refused(reply) or BadReply(f"not a result: {reply[:500]!r}")
        if self._batch > 1 and reply.count(self.sign) != self._batch:
            raise self._refused(reply) or BadReply(f"not {self._batch} results: {reply[:500]!r}")
        slot = int(reply[begin:end]) // self._batch
        if slot in self._unread:
            self._unread.discard(slot)
            message = self._messages[slot]
            if not self.is_answered(message, reply):
                raise BadReply(f"not the answer to {message.payload[:200]!r}: {reply[:500]!r}")
        return slot

    def _refused(self, reply: bytes) -> Refused | None:
        try:
            read = json.loads(reply)
            replies = read if isinstance(read, list) else [read]
            (error, *_) = [item["error"] for item in replies if "error" in item]
            return Refused(int(replies[0]["id"]) // self._batch, error)
        except (ValueError, KeyError, TypeError):
            return None

    def is_answered(self, message: Message, reply: bytes) -> bool:
        """Whether the reply has what the message asked for."""
        replies = json.loads(reply)
        results = [item["result"] for item in (replies if self._batch > 1 else [replies])]
        return all(
            job.items() <= result.items() and result.keys() == job.keys() | _ADDED
            for job, result in zip(message.jobs, results, strict=True)
        )
