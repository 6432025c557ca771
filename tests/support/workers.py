"""Runners and followers in the test's own loop, which do only what they are told."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from tests.support.api import Api, valid_notice, ws_api
from tests.support.streaming import StreamingClient, streaming

__all__ = ["SOME_RUNNER", "Follower", "Worker", "follower", "outcome_of", "register", "worker"]

SOME_RUNNER: Final = {"pubkey": "", "address": "127.0.0.1", "local": True}


async def register(api: Api, context: int, id: int = 3) -> None:
    """Create a runner."""
    record = {**SOME_RUNNER, "id": id, "topic": f"runner{id}"}
    await api.call("runner.create", context_id=context, runner=record)


def outcome_of(assignment: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Params of a report on this attempt."""
    job = assignment["job"]
    return {
        "context_id": assignment["context_id"],
        "caller_id": job["caller_id"],
        "id": job["id"],
        "token": assignment["token"],
        **more,
    }


class Worker:
    """A runner on a connection of its own; it gets assignments and leaves them lying.

    Attributes:
        frames: the assignments as they came, a list a frame.
        api: its connection.
        url: where it is connected.
    """

    url: str

    def __init__(self, context: int, id: int) -> None:
        self.context = context
        self.id = id
        self.subscription = ""
        self.lost: list[str] = []
        self.frames: list[list[dict[str, Any]]] = []
        self.client: StreamingClient
        self.api: Api
        self._send, self._receive = trio.open_memory_channel[dict[str, Any]](math.inf)
        self._cancels_in, self._cancels = trio.open_memory_channel[dict[str, Any]](math.inf)

    def notified(self, notices: list[dict[str, Any]]) -> None:
        """Take a frame."""
        assigned = []
        for notice in notices:
            params = valid_notice(notice)
            if notice["method"] == "runner.job":
                assigned.append(params)
                self._send.send_nowait(params)
            else:
                self._cancels_in.send_nowait(params)
        if assigned:
            self.frames.append(assigned)

    async def subscribe(self, **options: Any) -> None:
        params = {"script_types": ["Python"], "capacity": 1, **options}
        answer = await self.api.call("runner.subscribe", context_id=self.context, runner_id=self.id, **params)
        self.subscription = answer["subscription"]
        self.lost = answer["lost"]

    async def job(self) -> dict[str, Any]:
        """The next assignment."""
        return await self._receive.receive()

    async def jobs(self, count: int) -> list[dict[str, Any]]:
        """The next so many assignments."""
        return [await self.job() for _ in range(count)]

    @property
    def waiting(self) -> int:
        """Assignments that came and were not looked at."""
        return self._receive.statistics().current_buffer_used

    async def cancelled(self) -> dict[str, Any]:
        """The next notice to stop an attempt."""
        return await self._cancels.receive()

    async def finish(self, assignment: dict[str, Any], **result: str) -> dict[str, Any]:
        answer: dict[str, Any] = await self.api.call("job.finish", **outcome_of(assignment, result=result))
        return answer

    async def fail(self, assignment: dict[str, Any], error: str = "no", **more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await self.api.call("job.fail", **outcome_of(assignment, error=error, **more))
        return answer


@asynccontextmanager
async def worker(
    url: str, context: int, id: int = 3, *, subscribed: bool = True, **options: Any
) -> AsyncIterator[Worker]:
    """A connected runner, registered, and subscribed with these options unless told otherwise."""
    runner = Worker(context, id)
    runner.url = url
    async with streaming(url, runner.notified) as runner.client:
        runner.api = Api(runner.client)
        await register(runner.api, context, id)
        if subscribed:
            await runner.subscribe(**options)
        yield runner


class Follower:
    """Follows one flow.

    Attributes:
        events: what came so far, in order.
    """

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.subscription = ""
        self.missed = False
        self.api: Api
        self._more = trio.Event()

    def notified(self, notices: list[dict[str, Any]]) -> None:
        self.events += [valid_notice(notice) for notice in notices]
        self._more.set()
        self._more = trio.Event()

    async def until(self, **wanted: Any) -> dict[str, Any]:
        """The first event that has these members, possibly one that came before."""
        looked_at = 0
        while True:
            for event in self.events[looked_at:]:
                if wanted.items() <= event.items():
                    return event
            looked_at = len(self.events)
            await self._more.wait()

    async def subscribe(self, context: int, flow: int, **options: Any) -> None:
        answer = await self.api.call("flow.subscribe", context_id=context, id=flow, **options)
        self.subscription, self.missed = answer["subscription"], answer["missed"]


@asynccontextmanager
async def follower(url: str, context: int, flow: int = 1, **options: Any) -> AsyncIterator[Follower]:
    """A connected follower of a flow."""
    following = Follower()
    async with ws_api(url, following.notified) as following.api:
        await following.subscribe(context, flow, **options)
        yield following
