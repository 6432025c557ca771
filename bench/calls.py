"""The messages the load generator sends, and what counts as their answer. Pure: no sockets, no clocks."""

from __future__ import annotations

import json
from typing import Any, Final, Literal, NamedTuple

__all__ = [
    "JOBS",
    "Answer",
    "BadReply",
    "Expectation",
    "Kind",
    "Message",
    "canned_reply",
    "comparable",
    "message",
    "samples",
    "seeding",
]

Kind = Literal["load", "create"]
Answer = Literal["result", "echo", "canned"]
"""`result`: the results of the calls. `echo`: the message itself. `canned`: one reply to everything."""

JOBS: Final = 100  # jobs of a context; calls go round them
CALLER: Final = 7
TIMESTAMP: Final = 1_800_000_000  # Unix seconds, as long as a real one
STAMPS: Final = ("created_at", "updated_at")
ADDED: Final = {*STAMPS, "result", "status"}  # members a stored job has beside those that were sent
BEGINNING: Final = b'{"jsonrpc":"2.0","id":'


class BadReply(Exception):
    """A reply that is not what was asked for."""


class Message(NamedTuple):
    """One HTTP body or WebSocket frame."""

    payload: bytes
    jobs: list[dict[str, Any]]
    """The jobs its calls load or create, in order."""


def _render(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _job(context: int, number: int) -> dict[str, Any]:
    return {
        "id": 1 + number % JOBS,
        "caller_id": CALLER,
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
        params = {"context_id": job["context_id"], "caller_id": CALLER, "id": job["id"]}
    else:
        params = {"context_id": job["context_id"], "job": job}
    return {"jsonrpc": "2.0", "id": call_id, "method": f"job.{kind}", "params": params}


def message(kind: Kind, batch: int, context: int, slot: int) -> Message:
    """The message in place `slot` of a connection's window: a call, or `batch` of them if that is more than one.

    The ids of its calls begin with `slot * batch`, so a reply tells its slot.
    """
    numbers = range(slot * batch, (slot + 1) * batch)
    jobs = [_job(context, number) for number in numbers]
    calls = [_call(kind, number, job) for number, job in zip(numbers, jobs, strict=True)]
    return Message(_render(calls[0] if batch == 1 else calls), jobs)


def seeding(context: int) -> bytes:
    """A batch that creates every job the calls ask for."""
    return message("create", JOBS, context, 0).payload


def canned_reply(batch: int) -> bytes:
    """What the coordinator answers to a message of `batch` loads or creates, to the byte but for ids and times."""
    more = {"created_at": TIMESTAMP, "updated_at": TIMESTAMP, "result": {}, "status": "Dispatched"}
    replies = [{"jsonrpc": "2.0", "id": at, "result": {**_job(1, at), **more}} for at in range(batch)]
    return _render(replies[0] if batch == 1 else replies)


def samples(kind: Kind, batch: int) -> list[bytes]:
    """Messages that whoever answers with results must answer alike: one of the load's, and a job that is not there."""
    absent = {"context_id": 1, "caller_id": CALLER, "id": 2**32 - 1}
    return [
        message(kind, batch, 1, 0).payload,
        _render({"jsonrpc": "2.0", "id": "absent", "method": "job.load", "params": absent}),
    ]


def comparable(reply: Any) -> Any:
    """A reply without what two servers may differ in: the time itself, and how an error is explained."""
    if isinstance(reply, list):
        return [comparable(item) for item in reply]
    if "error" in reply:
        return {**reply, "error": reply["error"]["code"]}
    result = reply["result"]
    return {**reply, "result": {**result, **{name: type(result[name]).__name__ for name in STAMPS}}}


class Expectation:
    """Tells the good replies of one connection from bad ones. In the generator's hot path, so it is quick:
    every reply is recognised by its beginning and the number of its results, and each message's first is read in full.
    """

    def __init__(self, answer: Answer, messages: list[Message]) -> None:
        self._answer = answer
        self._messages = messages
        self._unread = set(range(len(messages)))
        self._batch = len(messages[0].jobs)
        self._beginning = BEGINNING if self._batch == 1 else b"[" + BEGINNING
        # A job has a member named result as well, which is empty.
        self._sign = b',"method":"job.' if answer == "echo" else b',"result":{"id":'

    def slot(self, reply: bytes) -> int:
        """The place in the window that `reply` answers. Raises BadReply."""
        begin = len(self._beginning)
        end = reply.find(b",", begin)
        if not reply.startswith(self._beginning) or not reply.startswith(self._sign, end):
            raise BadReply(f"not a result: {reply[:500]!r}")
        if self._batch > 1 and reply.count(self._sign) != self._batch:
            raise BadReply(f"not {self._batch} results: {reply[:500]!r}")
        slot = int(reply[begin:end]) // self._batch
        if slot in self._unread:
            self._unread.discard(slot)
            self._read(slot, reply)
        return slot

    def _read(self, slot: int, reply: bytes) -> None:
        payload, jobs = self._messages[slot]
        if self._answer == "result":
            replies = json.loads(reply)
            results = [item["result"] for item in (replies if self._batch > 1 else [replies])]
            good = all(
                job.items() <= result.items() and result.keys() == job.keys() | ADDED
                for job, result in zip(jobs, results, strict=True)
            )
        else:
            good = self._answer == "canned" or reply == payload
        if not good:
            raise BadReply(f"not the answer to {payload[:200]!r}: {reply[:500]!r}")
