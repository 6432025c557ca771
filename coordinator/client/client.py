"""The client: the calls of a Channel, the API's methods, and subscriptions."""

from __future__ import annotations

import math
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from coordinator import models
from coordinator.client.address import Address
from coordinator.client.channel import Channel
from coordinator.client.contexts import ContextFollower
from coordinator.client.credentials import Credentials
from coordinator.client.flows import FlowFollower
from coordinator.client.methods import Methods
from coordinator.client.runners import RunnerSubscription, subscribed_runner
from coordinator.client.stream import headers_from, tls_for
from coordinator.client.submission import ABANDON_AFTER, Progress, submit_flow

__all__ = ["Client", "connect"]


class Client(Channel, Methods):
    """Made by `connect`. Any number of tasks may use it at once."""

    async def submit_flow(
        self,
        *,
        context_id: int,
        flow: models.FlowCreate,
        jobs: Sequence[models.JobCreate],
        on_progress: Progress | None = None,
        abandon_after: float = ABANDON_AFTER,
    ) -> models.Flow:
        """Create a flow of any size with its jobs and start it; nothing of it runs before all is there.

        A small one is one call of `flow_submit`. A large one is sent in parts, and deleted again if that fails or is
        cancelled. If we are gone before it is complete, the server deletes it. Called again it changes nothing.

        Args:
            on_progress: called, while a large flow is sent, with the number of jobs sent and of all. Must not block or
                raise.
            abandon_after: seconds without a word from us after which the server deletes a flow that is not complete.

        Raises:
            RpcError, NoReply, CannotConnect: as `call`. Of NoReply, and of an error that says so, it may have been
                started.
            CallTooLarge: a job alone exceeds `max_frame_bytes`, or the list of their ids; nothing was sent.
        """
        params = models.FlowSubmitParams(context_id=context_id, flow=flow, jobs=list(jobs))
        return await submit_flow(self, params, abandon_after=abandon_after, on_progress=on_progress)

    def follow_flow(
        self, context_id: int, id: int, after: str | None = None, *, forever: bool = False, buffer: int = 1000
    ) -> FlowFollower:
        """A flow's events after that one, from the first one kept if left out, until it has ended.

        Args:
            after: an event's id.
            forever: go on after its end, because it may be tried again.
            buffer: events that may wait to be fetched.
        """
        flow = models.FlowParams(context_id=context_id, id=id)
        return FlowFollower(self, flow, after=after, forever=forever, buffer=buffer)

    def follow_context(self, context_id: int, after: str | None = None, *, buffer: int = 1000) -> ContextFollower:
        """What happens to all flows of a context, after that event, from now on if left out, until it is closed.

        Args:
            after: an event's id.
            buffer: events that may wait to be fetched.
        """
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
        """`async with client.subscribe_runner(…) as work:` gives a runner its assignments.

        Args:
            capacity: jobs it may hold at once.
            lease: seconds without a heartbeat after which an attempt is lost.
            session: names the runner's process, random if left out. Only a process that knows what it still works on
                after a restart gives its own.

        Raises, on entering:
            RpcError: the runner was not created, or cannot be subscribed to.
            pydantic.ValidationError: an argument is wrong.
            CannotConnect, ClientClosed: as `call`.
        """
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

    It is entered at once, calls wait for the connection. What was not answered when a connection is lost is sent again
    on the next one, first and in the order it was called in: every method of the API may be repeated.

    Args:
        url: ws://HOST:PORT or wss://HOST:PORT of the WebSocket, or http://HOST:PORT or https://HOST:PORT of the HTTP
            API, beside which it is at /ws. Without a port it is the coordinator's own, 9653 or 9652.
        headers: sent with the handshake, for a proxy that asks for them.
        ca: a file of certificates (PEM) that vouch for the coordinator, instead of the system's.
        ssl_context: for all else that TLS may need, instead of `ca` and of a certificate in `credentials`.
        timeout: seconds until a call raises NoReply, unless it gives its own.
        give_up_after: seconds without a connection after which every call raises CannotConnect. 0: one attempt.
        connect_timeout: seconds one attempt to connect may take.
        keepalive: seconds of silence after which the server is pinged; after as long again it counts as gone.
        max_in_flight, max_batch_length, max_frame_bytes: the server's settings of these names. Calls beyond the first
            wait for their turn.
        credentials: what to log in with on each connection, where callers log in.
        on_connect, on_disconnect: called, without arguments, when a connection is made and when it is lost. They must
            not block or raise.

    Raises:
        ValueError: the URL is not one, a header is none, or there are no certificates in `ca`.
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
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            try:
                yield client
            except BaseException as error:
                failure = error
                raise
            finally:
                await client.aclose()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # What the caller's own code raised is passed on as it is, not in the group of our tasks.
        if failure is None or group.exceptions != (failure,):
            raise
    if failure is not None:
        raise failure
