"""The contexts of a load, with the jobs that calls load: they are made, and deleted in the end."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import trio

from coordinator.client import Client, Forbidden, NotFound, NotLoggedIn, RpcError, StorageError
from coordinator.client.reasons import first_of
from coordinator.load.messages import JOBS, message
from coordinator.load.plan import LoadFailed, Plan

__all__ = ["answers", "each", "stage"]

RUNNERS_LEAVE: Final = 10.0  # seconds after which a runner that has gone is no longer taken for connected, and more
LOOK_AGAIN: Final = 0.25  # seconds
_ASKED_AT_ONCE: Final = 64
_ANSWER_TIMEOUT: Final = 15.0


@asynccontextmanager
async def stage(plan: Plan, client: Client, say: Callable[[str], None]) -> AsyncIterator[list[int]]:
    """The contexts of a run, with the jobs that calls load in each. Those that were made are deleted in the end.

    Raises:
        LoadFailed: they cannot be made.
    """
    made: list[int] = []
    own: list[int] = []
    try:
        try:
            if plan.first_context is None:
                first = await _free_range(client, plan.contexts)
                contexts = [*range(first, first + plan.contexts)]
                await each(contexts, lambda id: _make(client, id, plan.caller, made))
            else:
                contexts = [*range(plan.first_context, plan.first_context + plan.contexts)]
            if plan.jobs is None:
                await each(contexts, lambda id: _seed(client, id, plan.caller, own))
            elif plan.first_context is not None:
                await each(contexts, lambda id: _check_idle(client, id))
        except Forbidden as error:
            raise LoadFailed(
                f"{error.message}; log in as somebody who may, or give --context of one whose admin you are"
            ) from None
        except NotLoggedIn:
            raise LoadFailed("callers log in here: give --token-file or --key, see --help") from None
        except RpcError as error:
            what = "the jobs to load" if plan.jobs is None else "the contexts"
            raise LoadFailed(f"{what} cannot be made or used: {error.message}") from None
        yield contexts
    finally:
        with trio.move_on_after(60 + plan.contexts / 20, shield=True) as scope:
            if not (made or own) or await answers(client):
                await _clean(plan, client, made, own, say)
            else:
                say(f"the coordinator does not answer; what was made is in the contexts {_range_of(made or own)}")
        if scope.cancelled_caught:
            say(f"not everything was deleted in time; it is in the contexts {_range_of(made or own)}")


async def answers(client: Client) -> bool:
    """Whether there is somebody to delete anything, or the coordinator went away under the load."""
    with trio.move_on_after(_ANSWER_TIMEOUT):
        with suppress(RpcError):
            await client.call("auth.whoami", {})
        return True
    return False


def _range_of(ids: Sequence[int]) -> str:
    return f"{min(ids)} to {max(ids)}" if len(ids) > 1 else str(ids[0] if ids else "none")


async def each(ids: Sequence[int], act: Callable[[int], Any]) -> None:
    limit = trio.CapacityLimiter(_ASKED_AT_ONCE)

    async def one(id: int) -> None:
        async with limit:
            await act(id)

    try:
        async with trio.open_nursery() as nursery:
            for id in ids:
                nursery.start_soon(one, id)
    except BaseExceptionGroup as group:
        raise first_of(group) from None


async def _free_range(client: Client, count: int) -> int:
    """The first of so many context ids that are nobody's: high ones, or the lowest where the store has databases for
    those only (a Redis has 16 unless told otherwise)."""
    for _ in range(5):
        first = random.randrange(1_000_000_000, 2_000_000_000)
        try:
            if await _is_absent(client, first) and await _is_absent(client, first + count - 1):
                return first
        except StorageError:
            break
    taken = await _context_ids(client)
    first = 1
    for id in sorted(taken):
        if id >= first + count:
            break
        first = max(first, id + 1)
    try:
        if await _is_absent(client, first + count - 1):
            return first
    except StorageError as error:
        raise LoadFailed(f"the store has no room for {count} contexts more: {error.message}") from None
    raise LoadFailed("no context id is free; give --context")


async def _context_ids(client: Client) -> list[int]:
    page = await client.context_list()
    found = [*page.items]
    while page.cursor is not None:
        page = await client.context_list(cursor=page.cursor)
        found += page.items
    return found


async def _is_absent(client: Client, id: int) -> bool:
    try:
        await client.context_load(id=id)
    except NotFound:
        return True
    return False


async def _make(client: Client, id: int, caller: int, made: list[int]) -> None:
    if not await _is_absent(client, id):
        raise LoadFailed(f"context {id} is somebody's; try again")
    context = {"id": id, "admins": [caller], "readers": [], "executors": []}
    made.append(id)  # who is interrupted now does not know whether it was made
    await client.call("context.create", {"context": context})


async def _seed(client: Client, id: int, caller: int, own: list[int]) -> None:
    own.append(id)
    async with trio.open_nursery() as nursery:
        for job in message("create", JOBS, id, 0, caller).jobs:
            nursery.start_soon(client.call, "job.create", {"context_id": id, "job": job})


async def _clean(plan: Plan, client: Client, made: list[int], own: list[int], say: Callable[[str], None]) -> None:
    async def whole(id: int) -> None:
        with suppress(NotFound):
            await client.call("context.delete", {"context_id": id})

    async def jobs(id: int) -> None:
        for job in message("create", JOBS, id, 0, plan.caller).jobs:
            with suppress(NotFound):
                await client.call("job.delete", {"context_id": id, "caller_id": plan.caller, "id": job["id"]})

    try:
        if made:
            try:
                await each(made, whole)
                return
            except RpcError as error:
                if error.code != -32601:  # no such method: a coordinator from before it
                    raise
        await each(own, jobs)
        if made:
            say(f"this coordinator cannot delete contexts; empty ones stay behind: {_range_of(made)}")
    except Exception as error:  # it was the load that was to be measured
        say(f"what was made could not be deleted ({error}); it is in the contexts {_range_of(made or own)}")


async def _check_idle(client: Client, id: int) -> None:
    """Our runners must get no job of anybody else, nor anybody else's runner one of ours.

    Raises:
        LoadFailed: the context is not for this.
    """
    try:
        context = await client.call("context.load", {"id": id})
    except NotFound:
        raise LoadFailed(f"context {id} is not there; without --context new ones are used") from None
    paused = ["all of it"] if context.get("paused") else context.get("paused_script_types") or []
    if paused:
        raise LoadFailed(
            f"context {id} is paused ({', '.join(paused)}), so no job would run: resume it, or give another"
        )
    stats = await client.call("context.stats", {"context_id": id})
    if any(stats["flows"].values()) or any(stats["jobs"].values()):
        raise LoadFailed(
            f"context {id} has flows or jobs, which runners that do nothing must not take: give an empty one"
        )
    until = trio.current_time() + RUNNERS_LEAVE  # those of a run before this may have just gone
    while stats["runners"]["connected"] and trio.current_time() < until:
        await trio.sleep(LOOK_AGAIN)
        stats = await client.call("context.stats", {"context_id": id})
    if stats["runners"]["connected"]:
        raise LoadFailed(f"context {id} has runners, which would take the jobs of this load: give one that has none")
