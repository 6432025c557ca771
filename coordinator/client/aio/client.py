"""The client on asyncio: the calls of a Channel, the API's methods, and subscriptions."""

from __future__ import annotations

import asyncio
import math
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from coordinator import models
from coordinator.client.address import Address
from coordinator.client.aio.channel import Channel
from coordinator.client.contexts import ContextFollower
from coordinator.client.credentials import Credentials
from coordinator.client.flows import FlowFollower
from coordinator.client.methods import Methods
from coordinator.client.runners import RunnerSubscription, subscribed_runner
from coordinator.client.stream import headers_from, tls_for
from coordinator.client.submission import ABANDON_AFTER, Progress, submit_flow

__all__ = ["Client", "connect"]


class Client(Channel, Methods):
    """Made by `connect`. Any number of tasks of its event loop may use it at once."""

    async def submit_flow(
        self,
        *,
        context_id: int,
        flow: models.FlowCreate,
        jobs: Sequence[models.JobCreate],
        on_progress: Progress | None = None,
        abandon_after: float = ABANDON_AFTER,
    ) -> models.Flow:
        """Create a flow of any size with its jobs and start it; see `coordinator.client.Client.submit_flow`."""
        params = models.FlowSubmitParams(context_id=context_id, flow=flow, jobs=list(jobs))
        return await submit_flow(self, params, abandon_after=abandon_after, on_progress=on_progress)

    def follow_flow(
        self, context_id: int, id: int, after: str | None = None, *, forever: bool = False, buffer: int = 1000
    ) -> FlowFollower:
        """A flow's events after that one; see `coordinator.client.Client.follow_flow`."""
        flow = models.FlowParams(context_id=context_id, id=id)
        return FlowFollower(self, flow, after=after, forever=forever, buffer=buffer)

    def follow_context(self, context_id: int, after: str | None = None, *, buffer: int = 1000) -> ContextFollower:
        """What happens to all flows of a context; see `coordinator.client.Client.follow_context`."""
        return ContextFollower(self, context_id, after=after, buffer=buffer)

    def subscribe_runner(
        self,
        *,
        context_id: int,
        runner_id: int,
        script_types: Sequence[models.ScriptType],
        capacity: int,
        lease: float = 30.0,
        session: str = "",
    ) -> AbstractAsyncContextManager[RunnerSubscription]:
        """A runner's assignments; see `coordinator.client.Client.subscribe_runner`."""
        params = models.RunnerSubscribeParams(
            context_id=context_id,
            runner_id=runner_id,
            script_types=list(script_types),
            capacity=capacity,
            lease=lease,
            session=session,
        )
        return subscribed_runner(self, params)


@asynccontextmanager
async def connect(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    ca: str | os.PathLike[str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    timeout: float = 60.0,
    give_up_after: float = math.inf,
    connect_timeout: float = 10.0,
    keepalive: float = 20.0,
    max_in_flight: int = 1024,
    max_batch_length: int = 1000,
    max_frame_bytes: int = 1024 * 1024,
    on_connect: Callable[[], None] | None = None,
    on_disconnect: Callable[[], None] | None = None,
    credentials: Credentials | None = None,
) -> AsyncIterator[Client]:
    """A client of the coordinator at this URL, which connects by itself, now and whenever the connection is lost.

    The arguments, and what they raise, are those of `coordinator.client.connect`.
    """
    address = Address.parse(url).for_websocket()
    client = Client(
        address,
        tls=tls_for(address, ca, ssl_context, credentials),
        headers=headers_from(headers),
        timeout=timeout,
        give_up_after=give_up_after,
        connect_timeout=connect_timeout,
        keepalive=keepalive,
        max_in_flight=max_in_flight,
        max_batch_length=max_batch_length,
        max_frame_bytes=max_frame_bytes,
        on_connect=on_connect,
        on_disconnect=on_disconnect,
        credentials=credentials,
    )
    running = asyncio.ensure_future(client.run())
    try:
        yield client
    finally:
        try:
            await client.aclose()
        finally:
            running.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()  # which raises what our own task has failed with
