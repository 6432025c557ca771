"""How many records a context may have, and what they may take: looked at in the store, in the same step as what would
create more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from coordinator.actors.request import Answerable, Operation
from coordinator.errors import Overloaded
from coordinator.rpc.access import restricted
from coordinator.rpc.methods.method import Method, OneCommand, Steps
from coordinator.storage.functions import guarding
from coordinator.storage.functions.guarding import Guard
from coordinator.storage.keys import Keyspace, Transition, job_name

__all__ = ["within_quotas"]

CREATING: Final = ("job.create", "flow.create", "flow.submit", "message.create", "message.send", "flow.rerun")


def within_quotas(methods: Mapping[str, Method], *, jobs: int, flows: int, size: int) -> dict[str, Method]:
    """The methods; those that create jobs or flows are refused once their context has so many, and those that write
    them or messages once all these take `size` bytes (0: no limit)."""
    quotas = {kind: most for kind, most in (("job", jobs), ("flow", flows), ("bytes", size)) if most}
    if not quotas:
        return {**methods}
    return {**methods, **{name: _within(methods[name], quotas) for name in CREATING}}


def _within(method: Method, quotas: Mapping[str, int]) -> Method:
    does = method.does

    def refusal(guard: Guard, params: Any) -> Overloaded:
        return restricted.over_quota(guard)

    match does:
        case OneCommand(begin_one):

            def begin(keys: Keyspace, params: Any) -> Answerable:
                command, finish, asked = begin_one(keys, params)
                assert type(command) is Transition, f"{method.name} creates something, so it is a transition"
                needed = guarding.quota_guards(command, quotas)
                if not needed:
                    return command, finish, asked
                return restricted.guarded_command(command, needed, finish, asked, refusal, params)

            return replace(method, does=replace(does, begin=begin))
        case Steps(begin_steps):

            def begin_within(keys: Keyspace, params: Any) -> Operation:
                # What is created in parts is refused before the first, if that is to be told.
                jobs = [job_name(job.caller_id, job.id) for job in getattr(params, "jobs", ())]
                following = sum(len(job.script) for job in getattr(params, "jobs", ()))

                def guards(command: Transition) -> Sequence[Guard]:
                    return guarding.quota_guards(command, quotas, jobs, following)

                return restricted.guarded_steps(begin_steps(keys, params), guards, refusal, params)

            return replace(method, does=replace(does, begin=begin_within))
        case _:
            raise AssertionError(f"{method.name} needs the engine")
