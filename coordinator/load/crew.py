"""The runners of a load in which jobs run, and the flows whose logs are published: stored, and deleted in the end."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio

from coordinator.client import Client, Forbidden, NotFound, RpcError
from coordinator.load.plan import LoadFailed, Plan, Runner, share
from coordinator.load.shape import FLOW_NAME, SCRIPT_TYPES, Shape
from coordinator.load.stage import answers, each

__all__ = ["crew"]

_RUNNER_IDS: Final = 4_000_000_000  # the first; nobody else begins there
_TOKEN_SECONDS: Final = 86_400


@asynccontextmanager
async def crew(
    plan: Plan, client: Client, contexts: list[int], say: Callable[[str], None]
) -> AsyncIterator[list[Runner]]:
    """The runners that are stored for a run, with tokens where callers log in, and the flows whose logs are published.
    In contexts that stay, runners and flows are deleted in the end.

    Raises:
        LoadFailed: they cannot be made.
    """
    if plan.jobs is None:
        yield []
        return
    runners: dict[int, Runner] = {}
    places = _places(plan, contexts)
    is_open = not plan.token and not plan.certificate
    try:
        try:
            await each(range(len(places)), lambda at: _hire(client, at, *places[at], runners, is_open=is_open))
            for flow in range(1, plan.jobs.followed + 1):
                context = contexts[(flow - 1) % len(contexts)]
                await client.call("flow.submit", Shape(1, 1).submit(context, plan.caller, flow, flow, SCRIPT_TYPES[0]))
        except Forbidden as error:
            raise LoadFailed(
                f"{error.message}; storing runners and submitting flows needs an admin of the context: log in as one"
            ) from None
        except RpcError as error:
            raise LoadFailed(f"runners and flows cannot be made: {error.message}") from None
        yield [runners[id] for id in sorted(runners)]
    finally:
        if plan.first_context is not None:
            with trio.move_on_after(60 + plan.seconds * 10, shield=True) as scope:
                if await answers(client):
                    await _dismiss(plan, client, contexts, [*runners.values()], say)
                else:
                    say(f"the coordinator does not answer; flows that remain are named {FLOW_NAME!r}")
            if scope.cancelled_caught:
                say(f"not all flows were deleted in time; those that remain are named {FLOW_NAME!r}")


def _places(plan: Plan, contexts: Sequence[int]) -> list[tuple[int, int]]:
    """Process and context of each runner. Each context of a process has one."""
    assert plan.jobs is not None
    places = []
    for process in range(1 if plan.is_fanout else plan.generators):
        own, _ = share(plan, contexts, process)
        count = plan.jobs.runners if plan.is_fanout else math.ceil(plan.jobs.runners / plan.generators)
        places += [(process, own[at % len(own)]) for at in range(max(count, len(own)))]
    return places


async def _hire(
    client: Client, at: int, process: int, context: int, runners: dict[int, Runner], *, is_open: bool
) -> None:
    id = _RUNNER_IDS + at
    record = {"id": id, "pubkey": "", "address": "127.0.0.1", "topic": "bench", "local": True}
    runners[id] = Runner(process, context, id, "")
    await client.call("runner.create", {"context_id": context, "runner": record})
    if not is_open:
        of = {"principal": f"runner:{context}:{id}", "label": FLOW_NAME, "expires_in": _TOKEN_SECONDS}
        runners[id] = Runner(process, context, id, (await client.call("token.create", of))["token"])


async def _dismiss(
    plan: Plan, client: Client, contexts: list[int], runners: list[Runner], say: Callable[[str], None]
) -> None:
    async def flows(context: int) -> None:
        for method in ("flow.cancel_many", "flow.delete_many"):
            asked = {"context_id": context, "filter": {"name_prefix": FLOW_NAME, "caller_id": plan.caller}}
            while (cursor := (await client.call(method, asked)).get("cursor")) is not None:
                asked = {**asked, "cursor": cursor}

    try:
        await each(contexts, flows)
        for runner in runners:
            with suppress(NotFound):
                await client.call("runner.delete", {"context_id": runner.context, "id": runner.id})
    except Exception as error:  # it was the load that was to be measured
        say(f"what was made could not be deleted ({error}); flows that remain are named {FLOW_NAME!r}")
