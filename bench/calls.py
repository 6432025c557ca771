"""The messages of the benchmarks, and what counts as their answer beside results."""

from __future__ import annotations

from typing import Any, Final, Literal

from coordinator.load.messages import CALLER, JOBS, STAMPS, Expectation, Kind, Message, job, message, render

__all__ = ["Answer", "canned_reply", "comparable", "expectation", "samples", "seeding"]

Answer = Literal["result", "echo", "canned"]
"""`result`: the results of the calls. `echo`: the message itself. `canned`: one reply to everything."""

TIMESTAMP: Final = 1_800_000_000  # Unix seconds, as long as a real one


def seeding(context: int) -> bytes:
    """A batch that creates every job the calls ask for."""
    return message("create", JOBS, context, 0).payload


def canned_reply(batch: int) -> bytes:
    """What the coordinator answers to a message of `batch` loads or creates, to the byte but for ids and times."""
    more = {"created_at": TIMESTAMP, "updated_at": TIMESTAMP, "result": {}, "status": "Dispatched"}
    replies = [{"jsonrpc": "2.0", "id": at, "result": {**job(1, at), **more}} for at in range(batch)]
    return render(replies[0] if batch == 1 else replies)


def samples(kind: Kind, batch: int) -> list[bytes]:
    """Messages that whoever answers with results must answer alike: one of the load's, and a job that is not there."""
    absent = {"context_id": 1, "caller_id": CALLER, "id": 2**32 - 1}
    return [
        message(kind, batch, 1, 0).payload,
        render({"jsonrpc": "2.0", "id": "absent", "method": "job.load", "params": absent}),
    ]


def comparable(reply: Any) -> Any:
    """A reply without what two servers may differ in: the time itself, and how an error is explained."""
    if isinstance(reply, list):
        return [comparable(item) for item in reply]
    if "error" in reply:
        return {**reply, "error": reply["error"]["code"]}
    result = reply["result"]
    return {**reply, "result": {**result, **{name: type(result[name]).__name__ for name in STAMPS}}}


class _Echo(Expectation):
    sign = b',"method":"job.'

    def is_answered(self, message: Message, reply: bytes) -> bool:
        return reply == message.payload


class _Canned(Expectation):
    def is_answered(self, message: Message, reply: bytes) -> bool:
        return True


def expectation(answer: Answer, messages: list[Message]) -> Expectation:
    """What tells good replies of this kind from bad ones."""
    kinds: dict[Answer, type[Expectation]] = {"result": Expectation, "echo": _Echo, "canned": _Canned}
    return kinds[answer](messages)
