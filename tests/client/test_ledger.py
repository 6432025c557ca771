"""What is sent when, and what becomes of it, without a socket."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from coordinator.client.errors import CallTooLarge, ConnectionLost, NoReply
from coordinator.client.ledger import Call, Ledger, encode
from coordinator.models import FlowCreate, FlowCreateParams
from coordinator.rpc.jsonrpc.counting import MAX_VALUES, has_more_values


class Callers:
    """Who calls; `outcomes` by the name given to a call."""

    def __init__(self, *, max_in_flight: int = 100, max_batch: int = 50, max_frame_bytes: int = 10_000) -> None:
        self.ledger = Ledger(max_in_flight=max_in_flight, max_batch=max_batch, max_frame_bytes=max_frame_bytes)
        self.outcomes: dict[str, Any] = {}

    def call(self, name: str, *, deadline: float = math.inf, **options: Any) -> Call:
        def finish(outcome: Any) -> None:
            assert name not in self.outcomes, "finished twice"
            self.outcomes[name] = outcome

        params = encode(options.pop("params", {}))
        return self.ledger.put(name, params, finish, deadline=deadline, **options)

    def take(self) -> Any:
        """The methods of the next frame: a list if it is a batch."""
        frame = self.ledger.take()
        if frame is None:
            return None
        message = json.loads(frame)
        return [call["method"] for call in message] if isinstance(message, list) else message["method"]

    def reply(self, call: Call, **reply: Any) -> None:
        self.ledger.settle({"jsonrpc": "2.0", "id": call.id, **(reply or {"result": 1})})


def test_one_call_is_an_object_and_several_are_a_batch_in_order() -> None:
    callers = Callers()
    callers.call("a")
    assert callers.take() == "a"
    for name in "bcd":
        callers.call(name)

    assert callers.take() == ["b", "c", "d"]
    assert callers.take() is None


def test_a_batch_has_no_more_calls_and_bytes_than_the_server_takes() -> None:
    callers = Callers(max_batch=3, max_frame_bytes=400)
    for name in "abcd":
        callers.call(name)
    for name in ("big1", "big2"):
        callers.call(name, params={"text": "x" * 200})

    assert callers.take() == ["a", "b", "c"]
    frame = callers.ledger.take()
    assert frame is not None
    assert len(frame) <= 400
    assert [call["method"] for call in json.loads(frame)] == ["d", "big1"]
    assert callers.take() == "big2"


@pytest.mark.parametrize("max_frame_bytes", [1024 * 1024, 4 * 1024 * 1024])
@pytest.mark.parametrize("value", ["y", 1, [], {}, [[1]], {"a": {"b": ""}}, '"', "\\", "a,[{"], ids=json.dumps)
def test_a_batch_has_no_more_values_than_the_server_takes(value: Any, max_frame_bytes: int) -> None:
    """As when several scripts print short lines: what is refused is refused with all that is in its frame."""
    callers = Callers(max_in_flight=1000, max_batch=1000, max_frame_bytes=max_frame_bytes)
    for number in range(300):
        callers.call(str(number), params={"lines": [value] * 1000})
    limit = max(MAX_VALUES, max_frame_bytes // 8)

    frames = list(iter(callers.ledger.take, None))
    assert sum(len(json.loads(frame)) for frame in frames) == 300
    assert not any(has_more_values(frame, limit) for frame in frames)
    assert len(frames) <= 30


@pytest.mark.parametrize("excess", [0, 1])
def test_a_call_that_fits_no_frame_is_refused_at_once(excess: int) -> None:
    frame = b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"text":""}}'
    callers = Callers(max_frame_bytes=len(frame) + 100)
    text = "x" * (100 + excess)

    if excess:
        with pytest.raises(CallTooLarge, match="max_frame_bytes is"):
            callers.call("a", params={"text": text})
        assert len(callers.ledger) == 0
    else:
        callers.call("a", params={"text": text})
        assert callers.take() == "a"


def test_beyond_the_calls_in_flight_others_wait_for_replies() -> None:
    callers = Callers(max_in_flight=2)
    calls = [callers.call(name) for name in "abcd"]
    assert callers.take() == ["a", "b"]
    assert callers.take() is None

    callers.reply(calls[1])

    assert callers.take() == "c"
    assert callers.take() is None


def test_a_call_that_goes_alone_is_in_no_batch() -> None:
    callers = Callers()
    callers.call("a")
    callers.call("slow", alone=True)
    callers.call("b")

    assert [callers.take(), callers.take(), callers.take()] == ["a", "slow", "b"]


def test_after_a_lost_connection_what_was_not_answered_is_sent_again_first_and_in_order() -> None:
    callers = Callers(max_batch=2)
    calls = [callers.call(name) for name in "abcde"]
    callers.take()
    callers.take()
    callers.reply(calls[1])

    callers.ledger.connection_lost("cut")
    callers.call("f")

    assert [callers.take(), callers.take(), callers.take()] == [["a", "c"], ["d", "e"], "f"]
    callers.ledger.connection_lost("cut again")
    callers.call("subscribe", first=True)
    assert [callers.take() for _ in range(3)] == [["subscribe", "a"], ["c", "d"], ["e", "f"]]


def test_what_must_not_be_sent_twice_fails_with_the_connection_only_if_it_was_sent() -> None:
    callers = Callers(max_batch=1)
    callers.call("sent", resend=False)
    callers.call("unsent", resend=False)
    callers.take()

    callers.ledger.connection_lost("cut")

    assert isinstance(callers.outcomes["sent"], ConnectionLost)
    assert callers.take() == "unsent"


def test_a_deadline_ends_a_call_and_says_whether_it_was_sent() -> None:
    callers = Callers(max_batch=1)
    callers.call("sent", deadline=10)
    callers.call("unsent", deadline=11)
    callers.call("later", deadline=20)
    callers.take()

    assert callers.ledger.expire(9.9, "why") == 10
    assert callers.outcomes == {}
    assert callers.ledger.expire(11, "why") == 20

    sent, unsent = callers.outcomes["sent"], callers.outcomes["unsent"]
    assert isinstance(sent, NoReply)
    assert isinstance(unsent, NoReply)
    assert (sent.may_have_been_applied, unsent.may_have_been_applied) == (True, False)
    assert "later" not in callers.outcomes
    assert callers.take() == "later"


def test_a_call_sent_before_the_connection_was_lost_may_have_been_applied() -> None:
    callers = Callers()
    callers.call("a", deadline=10)
    callers.take()
    callers.ledger.connection_lost("cut")

    callers.ledger.expire(10, "why")

    assert callers.outcomes["a"].may_have_been_applied


def test_a_reply_too_large_for_its_batch_is_asked_for_alone() -> None:
    callers = Callers()
    calls = [callers.call(name) for name in "ab"]
    callers.take()
    callers.call("c")
    too_large = {"code": -32030, "message": "Reply Too Large"}

    callers.reply(calls[0], error=too_large)
    callers.reply(calls[1])

    assert "a" not in callers.outcomes
    assert [callers.take(), callers.take()] == ["a", "c"]
    callers.reply(calls[0], error=too_large)
    assert callers.outcomes["a"]["error"] == too_large


def test_an_error_without_an_id_fails_what_was_sent_and_nothing_else() -> None:
    callers = Callers(max_batch=2)
    for name in "abc":
        callers.call(name)
    callers.take()

    callers.ledger.settle({"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "m"}})

    assert set(callers.outcomes) == {"a", "b"}
    assert callers.take() == "c"


def test_replies_nobody_waits_for_are_ignored() -> None:
    callers = Callers()
    call = callers.call("a")
    callers.take()
    callers.ledger.abandon(call)

    callers.reply(call)
    callers.ledger.settle({"id": "1", "result": 1})
    callers.ledger.settle({"id": True, "result": 1})

    assert callers.outcomes == {}


def test_a_notification_has_no_id_and_is_done_when_it_is_sent() -> None:
    callers = Callers()
    callers.call("n", notification=True)
    assert callers.outcomes == {}

    assert json.loads(callers.ledger.take() or b"") == {"jsonrpc": "2.0", "method": "n", "params": {}}

    assert callers.outcomes["n"] == {"result": None}
    assert len(callers.ledger) == 0


def test_of_models_only_what_was_set_is_sent_wherever_they_are() -> None:
    flow = FlowCreate(id=1, caller_id=7, context_id=1, jobs=[], env_vars={})
    expected = {"context_id": 1, "flow": {"id": 1, "caller_id": 7, "context_id": 1, "jobs": [], "env_vars": {}}}

    assert json.loads(encode(FlowCreateParams(context_id=1, flow=flow))) == expected
    assert json.loads(encode({"context_id": 1, "flow": flow})) == expected
    assert json.loads(encode([1, flow])) == [1, expected["flow"]]


def test_an_error_by_itself_is_about_the_whole_batch_its_call_was_sent_in() -> None:
    callers = Callers(max_batch=3)
    for name in "abcde":
        callers.call(name)
    callers.ledger.take()
    callers.ledger.take()
    error = {"id": 1, "error": {"code": -32600, "message": "too many"}}

    callers.ledger.settle(error)

    assert callers.outcomes == {"a": error, "b": error, "c": error}
    assert len(callers.ledger) == 2


def test_an_error_in_a_batch_of_replies_is_about_its_call_only() -> None:
    callers = Callers()
    for name in "ab":
        callers.call(name)
    callers.ledger.take()
    error = {"id": 1, "error": {"code": -32600, "message": "no"}}

    callers.ledger.settle(error, is_single=False)

    assert callers.outcomes == {"a": error}
