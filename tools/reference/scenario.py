"""Calls each method of a live coordinator once, and keeps what was sent and what came back.

Whatever differs from run to run (times, tokens, nonces, random ids) is replaced by something of the same form, so that
two runs record the same.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.rpc.methods import METHODS
from coordinator.rpc.openrpc import NOTIFICATIONS, Exchange
from tests.access.callers import Caller, Key, operator_token
from tests.support.server import CoordinatorProcess, coordinator

__all__ = ["UNRECORDED", "record"]

NOW: Final = 1795487798
"""The time at which everything happens in what is recorded, in Unix seconds."""
SPANS: Final = (30, 3600, 12 * 3600, 30 * 86400)
"""Seconds for which what expires may be good."""
HEX: Final = "0123456789abcdef0123456789abcdef"
RANDOM: Final = "Yk3vXo8mT1qFbW0dLr5zNg"  # of 128 bits
SECRET: Final = "oAb2tq1YVb4ZlEzW0vYBQm3mTqgHh3BlKx7uPzR9dJc"  # of 256 bits
SIGNATURE: Final = "5VZDAMNgrHKQhuLMgG6CioSHfx645dl02HPgZSJJAVVfuIIVkKM7rMYeOXAc+bRr0lv18FlbvlRlUUFDjnoQCw=="

_EVENT_ID: Final = re.compile(r"\d{13}-\d+")
_HEX_ID: Final = re.compile(r"[0-9a-f]{32}")


class FixedKey(Key):
    """A key pair that is the same in each run."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.private = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
        self.raw = self.private.public_key().public_bytes_raw()
        self.public = "ed25519:" + base64.b64encode(self.raw).decode()


class Recorder:
    """Keeps the first call of each method that is to be kept."""

    def __init__(self) -> None:
        self.exchanges: dict[str, Exchange] = {}

    def __call__(self, caller: Caller, method: str, **params: Any) -> Any:
        result = caller.result(method, params)
        self.exchanges.setdefault(method, Exchange(params, result))
        return result

    def note(self, caller: Caller, notification: str) -> Any:
        """The params of the next notification of this name, which is kept, too."""
        params = caller.note(notification)
        self.exchanges.setdefault(notification, Exchange(params, None))
        return params


def record(directory: Path) -> dict[str, Exchange]:
    """By method, in the order of the table of methods, and then by notification. `directory` becomes the coordinator's
    data directory."""
    begun = time.time()
    with coordinator("--data-dir", str(directory), "--auth", "keys", "--workers", "1") as server:
        recorder = Recorder()
        _calls(server, operator_token(directory), recorder)
    replaced = Replacing(begun, recorder.exchanges)
    names = [name for name in (*METHODS, *NOTIFICATIONS) if name in recorder.exchanges]
    return {name: replaced.exchange(recorder.exchanges[name]) for name in names}


def _calls(server: CoordinatorProcess, token: str, do: Recorder) -> None:
    ada_key, runner_key, new_key = FixedKey(7), FixedKey(3), FixedKey(8)
    with ExitStack() as stack:
        operator = stack.enter_context(Caller(server, "http", token))
        do(operator, "actor.create", actor={"id": 7, "pubkey": ada_key.public, "address": ["10.0.0.7", "fd00::7"]})
        do(operator, "context.create", context={"id": 1, "admins": [7], "readers": [], "executors": [7]})
        ada, worker = stack.enter_context(Caller(server, "ws")), stack.enter_context(Caller(server, "ws"))
        _logging_in(do, ada, ada_key)
        do(ada, "runner.create", context_id=1, runner=_runner(3, runner_key.public))
        worker.log_in(runner_key, "runner:1:3")
        _reading_members(do, ada)
        _subscribing(do, ada, worker)
        _running_a_flow(do, ada, worker)
        _waiting_for_a_condition(do, ada)
        _sending_a_message(do, ada, worker)
        _deleting(do, ada)
        _tokens_and_keys(do, operator, ada, new_key)
        _all_others(do, [ada, operator, worker])
        operator.result("actor.revoke", {"id": 7})
        do.note(ada, "auth.ended")


def _runner(id: int, pubkey: str) -> dict[str, Any]:
    return {"id": id, "pubkey": pubkey, "address": "10.0.0.3", "topic": f"runner{id}", "local": False}


def _job(id: int, script: str, **more: Any) -> dict[str, Any]:
    asked = {"script": script, "script_type": "Python", "timeout": 60, "retries": 2}
    lists: dict[str, Any] = {"env_vars": {}, "prerequisites": [], "depends": []}
    return {"id": id, "caller_id": 7, "context_id": 1, **asked, **lists, **more}


def _logging_in(do: Recorder, ada: Caller, key: Key) -> None:
    challenge = do(ada, "auth.challenge")
    do(ada, "auth.login", **key.login("actor:7", challenge, ada.host))
    do(ada, "auth.renew", **key.login("actor:7", ada.result("auth.challenge", {}), ada.host))
    do(ada, "auth.whoami")
    do(ada, "auth.ticket")


def _reading_members(do: Recorder, ada: Caller) -> None:
    do(ada, "actor.load", id=7)
    do(ada, "context.load", id=1)
    do(ada, "context.list", limit=20)
    do(ada, "runner.load", context_id=1, id=3)


def _subscribing(do: Recorder, ada: Caller, worker: Caller) -> None:
    wanted = {"script_types": ["Python"], "capacity": 4, "lease": 30.0, "session": "machine-3/4711"}
    subscribed = do(worker, "runner.subscribe", context_id=1, runner_id=3, **wanted)
    _wait_until(lambda: ada.result("runner.connected", {"context_id": 1})["script_types"]["Python"] == 1)
    do(ada, "runner.connected", context_id=1)
    do(worker, "runner.unsubscribe", subscription=subscribed["subscription"])


def _running_a_flow(do: Recorder, ada: Caller, worker: Caller) -> None:
    do(ada, "job.create", context_id=1, job=_job(1, "print('hello')", env_vars={"LANG": "C"}))
    ada.result("job.create", {"context_id": 1, "job": _job(2, "print('world')", depends=[1])})
    flow = {"id": 1, "caller_id": 7, "context_id": 1, "jobs": [1, 2], "env_vars": {"STAGE": "test"}}
    do(ada, "flow.create", context_id=1, flow=flow)
    ada.result("flow.create", {"context_id": 1, "flow": {**flow, "name": "report", "tags": ["nightly"]}})
    do(ada, "flow.load", context_id=1, id=1)
    do(ada, "flow.dag", context_id=1, id=1)
    following = do(ada, "context.subscribe", context_id=1)
    do(ada, "flow.start", context_id=1, id=1)
    do.note(ada, "context.event")
    do(ada, "context.unsubscribe", subscription=following["subscription"])
    taken = do(worker, "job.take", context_id=1, runner_id=3, script_types=["Python"], count=1, wait=20.0)
    first = _attempt(taken["jobs"][0])
    do(worker, "job.heartbeat", **first)
    do(worker, "job.log", **first, lines=["hello"], stream="stdout")
    do(worker, "job.finish", **first, result={"answer": "42"})
    do(ada, "job.load", context_id=1, caller_id=7, id=1)
    do(ada, "job.tail", context_id=1, caller_id=7, id=1)
    do(ada, "flow.status", context_id=1, id=1)
    do(ada, "flow.events", context_id=1, id=1)
    subscribed = do(ada, "flow.subscribe", context_id=1, id=1)
    do.note(ada, "flow.event")
    do(ada, "flow.unsubscribe", subscription=subscribed["subscription"])
    do(ada, "flow.pause", context_id=1, id=1)
    do(ada, "flow.resume", context_id=1, id=1)
    second = _attempt(_take(worker))
    do(worker, "job.inputs", **second)
    _wait_until(lambda: ada.result("context.stats", {"context_id": 1})["runners"] == {"connected": 1, "busy": 1})
    do(ada, "context.stats", context_id=1)
    nightly = {"filter": {"tag": "nightly", "caller_id": 7}, "dry_run": True}
    do(ada, "flow.cancel_many", context_id=1, **nightly)
    do(worker, "job.fail", **second, error="exit status 1: ValueError: no such word", retry=False)
    do(ada, "job.attempts", context_id=1, caller_id=7, id=2)
    do(ada, "context.events", context_id=1, after=following["last_event"], limit=2)
    do(ada, "flow.retry_many", context_id=1, **nightly)
    do(ada, "flow.delete_many", context_id=1, **nightly)
    do(ada, "job.list", context_id=1, status="Error", limit=20)
    do(ada, "flow.list", context_id=1, status="Error", limit=20)
    do(ada, "flow.retry", context_id=1, id=1)
    wanted = {"context_id": 1, "runner_id": 3, "script_types": ["Python"], "capacity": 4}
    supplied = worker.result("runner.subscribe", wanted)
    do.note(worker, "runner.job")
    runners = {"context_id": 1, "limit": 20}
    _wait_until(lambda: {"connected_since", "attempts"} <= ada.result("runner.list", runners)["items"][0].keys())
    do(ada, "runner.list", **runners)
    do(ada, "flow.cancel", context_id=1, id=1, reason="no longer wanted")
    do.note(worker, "runner.cancel")
    worker.result("runner.unsubscribe", {"subscription": supplied["subscription"]})


def _wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)


def _take(worker: Caller) -> dict[str, Any]:
    wanted = {"context_id": 1, "runner_id": 3, "script_types": ["Python"], "count": 1, "wait": 20.0}
    [job] = worker.result("job.take", wanted)["jobs"]
    found: dict[str, Any] = job
    return found


def _attempt(assignment: dict[str, Any]) -> dict[str, Any]:
    job = assignment["job"]
    return {"context_id": 1, "caller_id": 7, "id": job["id"], "token": assignment["token"]}


def _waiting_for_a_condition(do: Recorder, ada: Caller) -> None:
    flow = {"id": 2, "caller_id": 7, "context_id": 1, "jobs": [11], "env_vars": {}}
    do(ada, "flow.submit", context_id=1, flow=flow, jobs=[_job(11, "print('shipped')", prerequisites=["approved"])])
    do(ada, "prerequisite.list", context_id=1)
    do(ada, "prerequisite.satisfy", context_id=1, name="approved", flow_id=2, by="Ada", payload={"order": "4711"})
    do(ada, "prerequisite.revoke", context_id=1, name="approved", flow_id=2)
    do(ada, "job.cancel", context_id=1, caller_id=7, id=11, reason="the order was withdrawn")
    do(ada, "flow.delete", context_id=1, id=2)


def _sending_a_message(do: Recorder, ada: Caller, worker: Caller) -> None:
    words = {"message": "please run this", "message_type": "Python", "message_format_type": "Text"}
    times = {"timeout": 60, "timeout_ack": 30, "timeout_result": 60}
    message = {"id": 1, "caller_id": 7, "context_id": 1, **words, **times, "job": [_job(21, "print('done')")]}
    do(ada, "message.create", context_id=1, message=message)
    do(ada, "message.send", context_id=1, caller_id=7, id=1)
    worker.result("job.finish", {**_attempt(_take(worker)), "result": {"done": "yes"}})
    do(ada, "message.load", context_id=1, caller_id=7, id=1)
    do(ada, "message.list", context_id=1, limit=20)
    do(ada, "message.delete", context_id=1, caller_id=7, id=1)


def _deleting(do: Recorder, ada: Caller) -> None:
    ada.result("job.create", {"context_id": 1, "job": _job(31, "print('never')")})
    do(ada, "job.delete", context_id=1, caller_id=7, id=31)
    ada.result("runner.create", {"context_id": 1, "runner": _runner(4, "none")})
    do(ada, "runner.delete", context_id=1, id=4)


def _tokens_and_keys(do: Recorder, operator: Caller, ada: Caller, new_key: Key) -> None:
    token = do(ada, "token.create", label="nightly build", expires_in=2592000)
    do(ada, "token.list")
    do(ada, "token.revoke", id=token["id"])
    do(operator, "actor.rotate_key", id=7, pubkey=new_key.public, overlap=3600)
    operator.result("actor.create", {"actor": {"id": 8, "pubkey": "none", "address": []}})
    do(operator, "actor.revoke", id=8)


UNRECORDED: Final = "has no example: add a call of it to tools/reference/scenario.py, and run `make reference`"
"""What is to be said of a method that was not called with success."""


def _all_others(do: Recorder, callers: list[Caller]) -> None:
    """Methods that are not called above are called with the example of their row, by whoever may; those that delete
    come last."""
    others = [name for name in METHODS if name not in do.exchanges]
    for name in sorted(others, key=lambda name: "delete" in name):
        params = METHODS[name].example or {}
        subscribed = do.exchanges.get(name.replace(".unsubscribe", ".subscribe"))
        if subscribed is not None:
            params = {"subscription": subscribed.result["subscription"]}
        for caller in callers:
            reply = caller.call(name, params)
            if "result" in reply:
                do.exchanges[name] = Exchange(params, reply["result"])
                break


class Replacing:
    """Replaces what differs from run to run.

    Args:
        begun: when the calls began.
    """

    def __init__(self, begun: float, exchanges: dict[str, Exchange]) -> None:
        self._begun = begun
        found = {text for exchange in exchanges.values() for text in _texts([*exchange]) if _EVENT_ID.fullmatch(text)}
        ordered = sorted(found, key=lambda text: tuple(map(int, text.split("-"))))
        self._events = {text: f"{NOW * 1000 + at}-0" for at, text in enumerate(ordered)}

    def exchange(self, exchange: Exchange) -> Exchange:
        return Exchange(self._value(exchange.params, ""), self._value(exchange.result, ""))

    def _value(self, value: Any, name: str) -> Any:
        match value:
            case dict():
                return {member: self._value(item, member) for member, item in value.items()}
            case list():
                return [self._value(item, name) for item in value]
            case bool():
                return value
            case int() if name == "at" or name.endswith(("_at", "_since")):
                return self._time(value, name)
            case str():
                return self._text(value, name)
        return value

    def _time(self, at: int, name: str) -> int:
        if at > 10**12:  # milliseconds
            return NOW * 1000
        if name != "expires_at":
            return NOW
        return NOW + min(SPANS, key=lambda span: abs(at - self._begun - span))

    def _text(self, text: str, name: str) -> str:
        if name == "token":
            return f"hc_{SECRET}" if text.startswith("hc_") else RANDOM + text[len(RANDOM) :]
        if name in ("nonce", "ticket"):
            return SECRET
        if name.endswith("signature"):
            return SIGNATURE
        if name == "server" or _HEX_ID.fullmatch(text):
            return HEX
        return self._events.get(text, text)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for item in value.values():
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)
        case str():
            yield value
