"""The client on asyncio: calls, subscriptions and lost connections, as on trio."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest

from coordinator.client import (
    CallTooLarge,
    CannotConnect,
    ClientClosed,
    ConnectionLost,
    Credentials,
    InvalidParams,
    MethodNotFound,
    NoReply,
    NotFound,
    RpcError,
    aio,
)
from coordinator.client.aio import Client, connect
from coordinator.models import ActorCreate, AssignmentNotice, CancelNotice
from coordinator.signing import new_key
from tests.access.callers import operator_token
from tests.client.conftest import CALLER, context, flow, job, port_of, runner
from tests.support.server import CoordinatorProcess, coordinator, free_port

_CONTEXTS = itertools.count(80_000)  # nobody else of the session uses these
PATIENCE = 30.0
CLOSE = 8


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario()

    asyncio.run(limited())


@pytest.fixture
def context_id() -> int:
    return next(_CONTEXTS)


class Proxy:
    """Its connections can be cut, kept without anything passing or being read, or slow."""

    def __init__(self) -> None:
        self.port = 0
        self.passes = True
        self.reads = asyncio.Event()
        self.reads.set()
        self.pause = 0.0  # seconds between two pieces
        self._open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def accept(self, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        self._open |= {writer, far_writer}
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        self._open -= {writer, far_writer}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await self.reads.wait() and (data := await reader.read(65536)):
                if self.passes:
                    writer.write(data)
                    await asyncio.sleep(self.pause)
        writer.transport.abort()


@contextlib.asynccontextmanager
async def proxied(server: CoordinatorProcess) -> AsyncIterator[Proxy]:
    proxy = Proxy()
    target = port_of(server.ws)
    listening = await asyncio.start_server(lambda *streams: proxy.accept(target, *streams), "127.0.0.1", 0)
    (listener,) = listening.sockets
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    proxy.port = listener.getsockname()[1]
    try:
        yield proxy
    finally:
        listening.close()
        proxy.cut()


@contextlib.asynccontextmanager
async def distant(proxy: Proxy, **more: Any) -> AsyncIterator[Client]:
    async with connect(f"ws://127.0.0.1:{proxy.port}", **more) as client:
        yield client


def test_calls_are_typed_and_so_are_their_errors(server: CoordinatorProcess, context_id: int) -> None:
    async def scenario() -> None:
        async with connect(server.http) as client:
            made = await client.context_create(context=context(context_id))
            assert made == await client.context_load(id=context_id)
            with pytest.raises(NotFound) as missing:
                await client.job_load(context_id=context_id, caller_id=CALLER, id=404)
            assert missing.value.data["ids"]["id"] == 404
            outcomes = await client.call_many(
                [("context.load", {"id": context_id}), ("no.method", {}), ("job.load", [])]
            )
            assert outcomes[0]["id"] == context_id
            assert [type(outcome) for outcome in outcomes[1:]] == [MethodNotFound, InvalidParams]
            assert await client.call_many([]) == []
            await client.notify("job.create", {"context_id": context_id, "job": job(context_id, 1)})
            large = "é" * 200_000
            stored = await client.job_create(context_id=context_id, job=job(context_id, 2, script=large))
            assert stored.script == large
            assert (await client.job_load(context_id=context_id, caller_id=CALLER, id=1)).id == 1
            with pytest.raises(CallTooLarge):
                await client.call("job.load", {"id": "x" * 2**20})
        with pytest.raises(ClientClosed):
            await client.context_load(id=context_id)

    play(scenario)


def test_deadlines_and_cancelling_leave_room_for_others(server: CoordinatorProcess, context_id: int) -> None:
    async def scenario() -> None:
        async with connect(server.ws, max_in_flight=2, max_batch_length=1) as client:
            await client.context_create(context=context(context_id))
            await client.runner_create(context_id=context_id, runner=runner(3))
            take = {"context_id": context_id, "runner_id": 3, "script_types": ["Python"], "wait": 20}
            with pytest.raises(NoReply) as late:
                await client.call("job.take", take, timeout=0.1, alone=True)
            assert late.value.may_have_been_applied
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.call("job.take", take, alone=True)
            async with asyncio.TaskGroup() as tasks:
                loads = [tasks.create_task(client.context_load(id=context_id)) for _ in range(20)]
            assert all(load.result().id == context_id for load in loads)

    play(scenario)


def test_every_call_is_answered_while_the_connection_is_cut(server: CoordinatorProcess, context_id: int) -> None:
    async def scenario() -> None:
        seen: list[str] = []
        async with (
            proxied(server) as proxy,
            distant(proxy, on_connect=lambda: seen.append("on"), on_disconnect=lambda: seen.append("off")) as client,
        ):
            await client.context_create(context=context(context_id))
            await client.runner_create(context_id=context_id, runner=runner(3))
            created = []
            for first in range(1, 101, 10):
                async with asyncio.TaskGroup() as tasks:
                    made = [
                        tasks.create_task(client.job_create(context_id=context_id, job=job(context_id, id)))
                        for id in range(first, first + 10)
                    ]
                    await asyncio.sleep(0)
                    if first % 3 == 0:
                        proxy.cut()
                created += [task.result().id for task in made]
            assert created == [*range(1, 101)]
            assert client.connections > 2
            take = {"context_id": context_id, "runner_id": 3, "script_types": ["Python"], "wait": 20}
            waiting = asyncio.ensure_future(client.call("job.take", take, resend=False, alone=True))
            await client.wait_connected()
            await client.context_load(id=context_id)
            proxy.cut()
            with pytest.raises(ConnectionLost):
                await waiting
        assert seen[: 2 * client.connections : 2] == ["on"] * client.connections

    play(scenario)


def test_a_silent_coordinator_is_left(server: CoordinatorProcess, context_id: int) -> None:
    async def scenario() -> None:
        async with proxied(server) as proxy, distant(proxy, keepalive=0.2) as client:
            await client.context_create(context=context(context_id))
            await asyncio.sleep(1)
            assert client.connections == 1
            proxy.passes = False
            async with asyncio.TaskGroup() as tasks:
                loading = tasks.create_task(client.context_load(id=context_id))
                while client.connected:
                    await asyncio.sleep(0.01)
                proxy.passes = True
            assert loading.result().id == context_id

    play(scenario)


def test_a_coordinator_that_reads_nothing_is_left(server: CoordinatorProcess, context_id: int) -> None:
    async def scenario() -> None:
        async with proxied(server) as proxy, distant(proxy, keepalive=0.2) as client:
            await client.context_create(context=context(context_id))
            proxy.reads.clear()
            async with asyncio.TaskGroup() as tasks:
                large = {"id": context_id, "more": "x" * 900_000}
                loads = [tasks.create_task(client.call("context.load", large)) for _ in range(12)]
                while client.connected:
                    await asyncio.sleep(0.01)
                proxy.reads.set()
            assert all(load.result()["id"] == context_id for load in loads)

    play(scenario)


def test_a_reply_that_takes_long_to_come_is_waited_for(server: CoordinatorProcess, context_id: int) -> None:
    async def scenario() -> None:
        async with proxied(server) as proxy, distant(proxy, keepalive=0.2) as client:
            await client.context_create(context=context(context_id))
            await client.job_create(context_id=context_id, job=job(context_id, 1, script="x" * 800_000))
            proxy.pause = 0.1
            assert len((await client.job_load(context_id=context_id, caller_id=CALLER, id=1)).script) == 800_000
            assert client.connections == 1

    play(scenario)


def test_what_is_on_its_way_when_the_client_is_closed_arrives() -> None:
    async def scenario() -> None:
        received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            key = re.search(rb"(?i)sec-websocket-key: *(\S+)", await reader.readuntil(b"\r\n\r\n"))
            assert key is not None
            accepted = base64.b64encode(sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: %b\r\n\r\n" % accepted
            )
            await asyncio.sleep(0.2)
            data = b""
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(65536):
                    data += piece
            received.set_result(data)
            writer.close()

        listening = await asyncio.start_server(accept, "127.0.0.1", 0, limit=1000)
        (listener,) = listening.sockets
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        async with connect(f"ws://127.0.0.1:{listener.getsockname()[1]}") as client:
            await client.wait_connected()
            assert client._socket is not None
            client._socket._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
            await client.notify("m", {"text": "x" * 200_000})
        data = await received
        assert len(data) > 200_000
        assert data[-8] & 0x0F == CLOSE
        listening.close()

    play(scenario)


def test_a_flow_is_run_and_followed_while_the_connection_is_cut(server: CoordinatorProcess, context_id: int) -> None:
    async def scenario() -> None:
        async with connect(server.ws) as direct, proxied(server) as proxy, distant(proxy) as client:
            await direct.context_create(context=context(context_id))
            await direct.runner_create(context_id=context_id, runner=runner(3))
            ids = [*range(1, 21)]
            jobs = [job(context_id, id, depends=[id - 1] if id > 1 else []) for id in ids]
            await direct.submit_flow(context_id=context_id, flow=flow(context_id, 1, ids), jobs=jobs)

            async def work() -> None:
                done = 0
                subscribing = client.subscribe_runner(
                    context_id=context_id, runner_id=3, script_types=["Python"], capacity=2
                )
                async with subscribing as subscription:
                    async for item in subscription:
                        assert isinstance(item, AssignmentNotice)
                        await subscription.log(item, ["here"])
                        if item.job.id % 5 == 0:
                            proxy.cut()
                        await subscription.finish(item, {"id": str(item.job.id)})
                        done += 1
                        if done == len(ids):
                            return

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(work())
                follower = client.follow_flow(context_id, 1, buffer=3)
                events = [event async for event in follower]
            kept = await direct.flow_events(context_id=context_id, id=1, limit=1000)
            assert [event.event_id for event in events] == [event.event_id for event in kept.events]
            assert events[-1].status == "Finished"
            assert not follower.missed
            assert client.connections > 2
            assert (await direct.flow_load(context_id=context_id, id=1)).result == {"20": '{"id":"20"}'}

    play(scenario)


def test_a_cancel_reaches_the_runner(server: CoordinatorProcess, context_id: int) -> None:
    async def scenario() -> None:
        async with connect(server.ws) as client:
            await client.context_create(context=context(context_id))
            await client.runner_create(context_id=context_id, runner=runner(3))
            subscribing = client.subscribe_runner(
                context_id=context_id, runner_id=3, script_types=["Python"], capacity=1
            )
            async with subscribing as subscription:
                await client.flow_submit(
                    context_id=context_id, flow=flow(context_id, 1, [1]), jobs=[job(context_id, 1)]
                )
                assignment = await anext(subscription)
                await client.flow_cancel(context_id=context_id, id=1, reason="enough")
                cancel = await anext(subscription)
                assert isinstance(cancel, CancelNotice)
                assert (cancel.token, subscription.holding) == (assignment.token, [])
                await subscription.unsubscribe()
                assert [item async for item in subscription] == []

    play(scenario)


def test_a_large_flow_that_is_interrupted_is_deleted_again(server: CoordinatorProcess, context_id: int) -> None:
    async def scenario() -> None:
        async with connect(server.ws) as client:
            await client.context_create(context=context(context_id))
            ids = [*range(1, 1202)]
            begun = asyncio.Event()
            submitting = asyncio.ensure_future(
                client.submit_flow(
                    context_id=context_id,
                    flow=flow(context_id, 1, ids),
                    jobs=[job(context_id, id) for id in ids],
                    on_progress=lambda done, _: begun.set() if done else None,
                )
            )
            await begun.wait()
            submitting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await submitting
            with pytest.raises(NotFound):
                await client.flow_load(context_id=context_id, id=1)
            submitted = await client.submit_flow(
                context_id=context_id, flow=flow(context_id, 1, ids), jobs=[job(context_id, id) for id in ids]
            )
            assert submitted.status == "Started"

    play(scenario)


def test_giving_up_says_why(server: CoordinatorProcess) -> None:
    async def scenario() -> None:
        async with connect(f"ws://127.0.0.1:{free_port()}", give_up_after=0) as client:
            with pytest.raises(CannotConnect, match="refused"):
                await client.context_load(id=1)
        async with connect(f"{server.http}/nowhere/ws", give_up_after=0) as client:
            with pytest.raises(CannotConnect, match="it answered 40"):
                await client.context_load(id=1)

    play(scenario)


@pytest.mark.slow
def test_the_example_of_the_client_runs(server: CoordinatorProcess) -> None:
    assert aio.__doc__
    (code,) = [block.partition("```")[0] for block in aio.__doc__.split("```python\n")[1:]]
    assert "ws://127.0.0.1:9653" in code
    script = code.replace("ws://127.0.0.1:9653", server.ws)

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Not Found (-32001): no flow with ")


@pytest.mark.slow
def test_logging_in_and_tls(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    key = tmp_path / "ada.key"
    public = new_key(key).public
    files = ("--tls-cert", str(tmp_path / "server.pem"), "--tls-key", str(tmp_path / "server.pem"))

    async def scenario(ws: str) -> None:
        ca = tmp_path / "ca.pem"
        operator = Credentials(token=operator_token(tmp_path / "data"))
        async with connect(ws, ca=ca, credentials=operator) as client:
            await client.actor_create(actor=ActorCreate(id=7, pubkey=public, address=[]))
        async with connect(ws, ca=ca, credentials=Credentials("actor:7", key=key)) as client:
            assert (await client.auth_whoami()).principal == "actor:7"
        async with connect(ws, ssl_context=ssl.create_default_context(), give_up_after=0) as client:
            with pytest.raises(CannotConnect, match="certificate is refused"):
                await client.auth_whoami()
        async with connect(ws, ca=ca, credentials=Credentials(token="hc_no"), timeout=0.5) as client:
            with pytest.raises((NoReply, RpcError)):
                await client.auth_whoami()

    with coordinator("--data-dir", str(tmp_path / "data"), "--auth", "keys", *files) as guarded:
        play(lambda: scenario(guarded.ws.replace("127.0.0.1", "localhost")))
