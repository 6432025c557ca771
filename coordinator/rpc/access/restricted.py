"""Methods as those call them who may do or see only a part: guarded in the store, and with replies that say less.

A row of the table of methods is copied with another `does`, so whoever may do all pays nothing for this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic_core import from_json, to_json

from coordinator.actors.request import Answerable, Compute, First, Further, Operation, RawJson, WithEffects
from coordinator.engine.sessions import Caller
from coordinator.errors import CoordinatorError, Overloaded, StaleToken
from coordinator.measures import refused
from coordinator.rpc.methods.method import Live, Method, OneCommand, Personal, Steps
from coordinator.storage.functions import guarding
from coordinator.storage.functions.guarding import Guard
from coordinator.storage.keys import Keyspace, Transition, index_entry, job_name

__all__ = [
    "Guards",
    "Hide",
    "called_with",
    "guarded",
    "guarding_each",
    "hidden_addresses",
    "hidden_admins",
    "hidden_env",
    "hidden_logs",
    "only_runner",
    "own_attempt",
    "telling",
    "then",
]

AT_ONCE: Final = 256 * 1024  # bytes of a reply that is read and written again on the event loop, about 2 ms

Guards = Callable[[Any], Sequence[Guard]]
"""From validated params to what must be true in the store. It raises what is known without that."""

Refusal = Callable[[Guard, Any], CoordinatorError]
"""What a call is answered with when a guard has refused it, by the guard and the params."""

Hide = Callable[[Any], None]
"""Takes away from a reply, which is parsed, what the caller may not see."""


def guarded(method: Method, guards: Guards, refusal: Refusal) -> Method:
    """The method for who may do it only if the guards hold, in the same step of the store as what it does."""
    does = method.does
    if isinstance(does, OneCommand):
        begin_one = does.begin

        def begin(keys: Keyspace, params: Any) -> Answerable:
            needed = guards(params)
            command, finish, asked = begin_one(keys, params)
            assert type(command) is Transition, f"{method.name} is to be guarded, so it is a transition"
            return guarded_command(command, needed, finish, asked, refusal, params)

        return replace(method, does=replace(does, begin=begin))
    assert isinstance(does, Steps), f"{method.name} cannot be guarded"
    begin_steps = does.begin

    def begin_guarded(keys: Keyspace, params: Any) -> Operation:
        needed = guards(params)
        return guarded_steps(begin_steps(keys, params), lambda command: needed, refusal, params)

    return replace(method, does=replace(does, begin=begin_guarded))


def guarding_each(method: Method, guards: Callable[[str], Sequence[Guard]], refusal: Refusal) -> Method:
    """The method, each transition of which is guarded by the name of the record that it is about."""
    does = method.does
    assert isinstance(does, Steps), f"{method.name} is about one record"
    begin = does.begin

    def begin_guarding(keys: Keyspace, params: Any) -> Operation:
        def needed(command: Transition) -> Sequence[Guard]:
            return guards(guarding.record_of(command))

        return guarded_steps(begin(keys, params), needed, refusal, params)

    return replace(method, does=replace(does, begin=begin_guarding))


def guarded_command(
    command: Transition, guards: Sequence[Guard], finish: Any, asked: Any, refusal: Refusal, params: Any
) -> Answerable:
    """A command and how its answer is made, unless a guard refuses it."""
    return guarding.guarded(command, guards), _guarded_answer, (finish, asked, refusal, params)


def over_quota(guard: Guard) -> Overloaded:
    """What is said of a guard of `guarding.quota_guards` that has refused."""
    if guard.kind == guarding.BYTES:
        limit, used = int(guard.record), int(guard.value)
        detail = (
            f"this context's records take {used} bytes and may take {limit}, with what this would write; delete some"
        )
        return Overloaded(detail, limit, "context_bytes", used=used)
    kind, most = guard.record.split(" ")
    detail = f"this context may have {most} {kind}s, with those that this would create; delete some"
    return Overloaded(detail, int(most), f"context_{kind}s")


def _refused(guard: Guard, refusal: Refusal, params: Any) -> CoordinatorError:
    if guard.kind not in (guarding.QUOTA, guarding.BYTES):
        return refusal(guard, params)
    over = over_quota(guard)
    refused(over.data["setting"], params.context_id)
    return over


def _guarded_answer(reply: Any, asked: Any) -> RawJson | WithEffects | Compute:
    finish, inner, refusal, params = asked
    guard = guarding.refusing_guard(reply)
    if guard is not None:
        raise _refused(guard, refusal, params)
    answer: RawJson | WithEffects | Compute = finish(reply, inner)
    return answer


def guarded_steps(
    operation: Operation, guards: Callable[[Transition], Sequence[Guard]], refusal: Refusal, params: Any
) -> Operation:
    """Each transition of the operation, guarded."""
    sent: Any = None
    try:
        while True:
            try:
                step = operation.send(sent)
            except StopIteration as finished:
                answer: RawJson | WithEffects = finished.value
                return answer
            if not isinstance(step, list):
                sent = yield step
                continue
            commands = [
                guarding.guarded(command, guards(command)) if type(command) is Transition else command
                for command in step
            ]
            if isinstance(step, Further):
                sent = yield Further(commands, step.effects)
            else:
                sent = yield First(commands) if isinstance(step, First) else commands
            for reply in sent:
                guard = guarding.refusing_guard(reply)
                if guard is not None:
                    raise _refused(guard, refusal, params)
    finally:
        operation.close()


def then(method: Method, done: Callable[[Any], None]) -> Method:
    """The method, after which `done` is called with the params. It must not raise."""
    does = method.does
    assert isinstance(does, OneCommand), f"{method.name} is more than a command"
    begin_one = does.begin

    def begin(keys: Keyspace, params: Any) -> Answerable:
        command, finish, asked = begin_one(keys, params)
        return command, _then_done, (finish, asked, done, params)

    return replace(method, does=replace(does, begin=begin))


def _then_done(reply: Any, asked: Any) -> RawJson | WithEffects | Compute:
    finish, inner, done, params = asked
    answer: RawJson | WithEffects | Compute = finish(reply, inner)
    done(params)
    return answer


def own_attempt(method: Method, runner_id: int) -> Method:
    """A report on an attempt, for the runner that it must be of."""

    def guards(params: Any) -> Sequence[Guard]:
        return [Guard("attempt", job_name(params.caller_id, params.id), f"{runner_id} {params.token}")]

    def refusal(_: Guard, params: Any) -> CoordinatorError:
        return StaleToken(params.token)

    if method.writes:
        return guarded(method, guards, refusal)
    does = method.does
    assert isinstance(does, Steps), f"{method.name} reads what an attempt needs"
    begin = does.begin

    def reading(keys: Keyspace, params: Any) -> Operation:
        # A token names one attempt, and that one runner, for good. So it may be looked at before.
        (field,) = yield [("HGET", keys.job(params.caller_id, params.id), "x_attempt")]
        words = (field or b"").split(b" ")
        if field is not None and words[1:3] != [params.token.encode(), b"%d" % runner_id]:
            raise StaleToken(params.token)
        return (yield from begin(keys, params))

    return replace(method, does=replace(does, begin=reading))


def called_with(
    method: Method,
    *,
    caller: Callable[[Caller], Caller] = lambda caller: caller,
    params: Callable[[Any], Any] = lambda params: params,
) -> Method:
    """A method that needs the engine, called with another caller, or other params, than those that were sent.

    Args:
        caller, params: make the other one.
    """
    does = method.does
    assert isinstance(does, Live), f"{method.name} needs no engine"
    begin = does.begin
    changed = replace(does, begin=lambda engine, by, keys, sent: begin(engine, caller(by), keys, params(sent)))
    return replace(method, does=changed)


def only_runner(method: Method, id: int) -> Method:
    """A list of runners, for the one that sees itself alone: a page with it, if it is behind the cursor, and no other
    page, whatever else is there."""
    does = method.does
    assert isinstance(does, Steps), f"{method.name} is no list"
    begin = does.begin

    def itself(keys: Keyspace, params: Any) -> Operation:
        before = index_entry(id - 1) if id else ""
        first = params.model_copy(update={"cursor": max(params.cursor, before), "limit": 1})
        answer = yield from begin(keys, first)
        assert isinstance(answer, bytes), "a page has no effects"
        items = [runner for runner in from_json(answer)["items"] if runner["id"] == id]
        return to_json({"items": items})

    return replace(method, does=replace(does, begin=itself))


# -- replies that say less


def telling(method: Method, hide: Hide) -> Method:
    """The method, with a reply from which something is taken away."""
    does = method.does
    if isinstance(does, OneCommand):
        begin_one = does.begin

        def begin(keys: Keyspace, params: Any) -> Answerable:
            command, finish, asked = begin_one(keys, params)
            return command, _hidden_answer, (finish, asked, hide)

        return replace(method, does=replace(does, begin=begin))
    assert isinstance(does, Steps), f"nothing can be taken away from the reply to {method.name}"
    begin_steps = does.begin

    def begin_hiding(keys: Keyspace, params: Any) -> Operation:
        answer = yield from begin_steps(keys, params)
        raw = answer.answer if isinstance(answer, WithEffects) else answer
        if len(raw) <= AT_ONCE:
            raw = _without(raw, hide)
        else:
            raw = yield Compute(lambda: _without(raw, hide))
        return WithEffects(raw, answer.effects) if isinstance(answer, WithEffects) else raw

    return replace(method, does=replace(does, begin=begin_hiding))


def _hidden_answer(reply: Any, asked: Any) -> RawJson | WithEffects | Compute:
    finish, inner, hide = asked
    answer = finish(reply, inner)
    if isinstance(answer, WithEffects):
        return WithEffects(_without(answer.answer, hide), answer.effects)
    if isinstance(answer, Compute):
        run = answer.run
        return Compute(lambda: _without(run(), hide))
    if len(answer) > AT_ONCE:
        return Compute(lambda: _without(answer, hide))
    return _without(answer, hide)


def _without(raw: RawJson, hide: Hide) -> RawJson:
    reply = from_json(raw)
    hide(reply)
    return to_json(reply)


def _records(reply: Any) -> Sequence[Any]:
    """The records in a reply: one, those of a page, or the flow of a report."""
    if "items" in reply:
        records: Sequence[Any] = reply["items"]
        return records
    return [reply["flow"]] if isinstance(reply.get("flow"), dict) else [reply]


def hidden_env(own: int | None) -> Hide:
    """Takes the env_vars of jobs, flows and jobs in messages away, but for those of the actor `own`."""

    def hide(reply: Any) -> None:
        for record in _records(reply):
            embedded = record.get("job")
            for one in (record, *(embedded if isinstance(embedded, list) else ())):
                if "env_vars" in one and one.get("caller_id") != own:
                    one["env_vars"] = {}

    return hide


def hidden_logs(reply: Any) -> None:
    """Takes log lines away: those of messages, and the events that bring some."""
    if "events" in reply:
        reply["events"] = [event for event in reply["events"] if event["kind"] != "log"]
    for record in _records(reply):
        if "logs" in record:
            record["logs"] = []


def hidden_addresses(reply: Any) -> None:
    """Takes the addresses of runners away. The contract wants one, so there is one that leads nowhere."""
    for record in _records(reply):
        if "address" in record:
            record["address"] = "::"


def hidden_admins(reply: Any) -> None:
    """Takes a context's admins away."""
    reply["admins"] = []


def personal(method: Method, answer: Callable[[Any, Any], Any]) -> Method:
    """The method, answered in another way."""
    return replace(method, does=Personal(answer))
