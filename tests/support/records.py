"""A valid record of each kind, and the calls that create and load it."""

from __future__ import annotations

import itertools
from typing import Any, Final

__all__ = ["CALLER", "KINDS", "Record", "as_sent", "create", "dag", "fresh_id", "load", "sample"]

Record = dict[str, Any]
Params = dict[str, Any]

KINDS: Final = ("actor", "context", "runner", "flow", "job", "message")
CALLER: Final = 7

_OF_A_CALLER: Final = ("flow", "job", "message")
_LOADED_BY_CALLER: Final = ("job", "message")
_MEMBERS: Final[dict[str, Record]] = {
    "actor": {"pubkey": "ed25519:7", "address": ["10.0.0.7", "fd00::7"]},
    "context": {"admins": [7], "readers": [8, 9], "executors": []},
    "runner": {"pubkey": "ed25519:3", "address": "::1", "topic": "runner3", "local": True},
    "flow": {"jobs": [], "env_vars": {"STAGE": "test"}},
    "job": {
        "script": "print('hello')",
        "script_type": "Python",
        "timeout": 60,
        "retries": 2,
        "env_vars": {"LANG": "C"},
        "prerequisites": ["disk"],
        "depends": [],
    },
    "message": {
        "message": "please run this",
        "message_type": "Sal",
        "message_format_type": "Md",
        "timeout": 60,
        "timeout_ack": 5,
        "timeout_result": 90,
        "job": [],
    },
}

_ids = itertools.count(1000)


def fresh_id() -> int:
    """An id, of a context or an actor, that no other test uses."""
    return next(_ids)


def sample(kind: str, context: int, id: int, **members: Any) -> Record:
    """What creates a record of this kind, with the optional members left out. The id of a context is its own."""
    ids = {"id": context if kind == "context" else id}
    if kind in _OF_A_CALLER:
        ids |= {"caller_id": CALLER, "context_id": context}
    return {**ids, **_MEMBERS[kind], **members}


def create(kind: str, context: int, record: Record) -> tuple[str, Params]:
    """The call that creates it."""
    place = {} if kind in ("actor", "context") else {"context_id": context}
    return f"{kind}.create", {**place, kind: record}


def load(kind: str, context: int, id: int, caller_id: int = CALLER) -> tuple[str, Params]:
    """The call that loads it."""
    if kind == "context":
        return "context.load", {"id": context}
    place = {} if kind == "actor" else {"context_id": context}
    caller = {"caller_id": caller_id} if kind in _LOADED_BY_CALLER else {}
    return f"{kind}.load", {**place, **caller, "id": id}


def dag(context: int, id: int) -> tuple[str, Params]:
    """The call for a flow's DAG."""
    return "flow.dag", {"context_id": context, "id": id}


def as_sent(result: Record, sent: Record) -> Record:
    """Those members of the result that were sent; in a message's jobs likewise."""
    members = {name: result[name] for name in sent}
    if isinstance(sent.get("job"), list):
        members["job"] = [as_sent(job, job_sent) for job, job_sent in zip(result["job"], sent["job"], strict=True)]
    return members
