"""Calls of several clients to one context that wait for its supervisor together travel as one request. Each is still a
call of its own: in its place, with its own outcome, its client's rights, and its client's share of what may wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import trio

from coordinator.server.app import App
from tests.access import callers
from tests.support.inprocess import serving, ws_url
from tests.support.proxy import Proxy, proxied
from tests.support.server import ValkeyProcess
from tests.support.streaming import ConnectionLost, ErrorReply, StreamingClient, streaming
from tests.support.waiting import until

CONTEXT, CLIENTS = 3, 24
ADMIN, EXECUTOR, READER = 7, 8, 9
SILENCE = 0.5  # seconds after which the coordinator gives a connection to the store up


def requests(app: App) -> list[Any]:
    """Those that are unanswered in the context."""
    assert app._service is not None
    return [*app._service._directory.mailboxes[CONTEXT].pending]


def a_load(id: int, caller: int = ADMIN) -> dict[str, Any]:
    return {"context_id": CONTEXT, "caller_id": caller, "id": id}


def a_job(id: int, caller: int = ADMIN, **more: Any) -> dict[str, Any]:
    return {"context_id": CONTEXT, "job": callers.job(CONTEXT, caller, id, **more)}


async def outcome(client: StreamingClient, method: str, params: Any) -> Any:
    """The result of a call, or the code of its error."""
    try:
        return await client.call(method, params)
    except ErrorReply as error:
        return error.code
    except ConnectionLost:  # with the login
        return None


class Held:
    """The two rounds that may be on the wire are taken, by calls that the store does not answer: what is called now
    waits."""

    def __init__(self, app: App, proxy: Proxy) -> None:
        self.app = app
        self.proxy = proxy

    @asynccontextmanager
    async def back(self, client: StreamingClient) -> AsyncIterator[None]:
        self.proxy.stall()
        async with trio.open_nursery() as nursery:
            for sent in (1, 2):
                nursery.start_soon(outcome, client, "job.load", a_load(1))
                await until(lambda sent=sent: self.sent == sent)  # type: ignore[misc]
            yield
            await self.proxy.pass_all()

    @property
    def sent(self) -> int:
        return sum(request.unanswered for request in requests(self.app))


async def test_calls_of_several_clients_are_one_request(store: ValkeyProcess) -> None:
    async with (
        proxied(store.port) as proxy,
        serving(redis_url=proxy.url, store_timeout=20.0) as app,
        AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(streaming(ws_url(app))) for _ in range(CLIENTS)]
        for id, client in enumerate(clients[1:], 1):
            await client.call("job.create", a_job(id, script=f"of {id}"))
        found: dict[int, Any] = {}

        async def load(id: int, client: StreamingClient) -> None:
            found[id] = await outcome(client, "job.load", a_load(id))

        async with Held(app, proxy).back(clients[0]), trio.open_nursery() as nursery:
            for id, client in enumerate(clients):
                nursery.start_soon(load, id, client)
            await until(lambda: sum(request.calls for request in requests(app)) == 2 + CLIENTS)
            assert len(requests(app)) < CLIENTS / 2
            await proxy.pass_all()

        assert found.pop(0) == -32001, "there is no such job, which concerns nobody else"
        assert {id: job["script"] for id, job in found.items()} == {id: f"of {id}" for id in range(1, CLIENTS)}


async def test_what_one_client_asks_for_stays_in_its_order(store: ValkeyProcess) -> None:
    async with serving(redis_url=store.url) as app, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(streaming(ws_url(app))) for _ in range(CLIENTS)]
        seen: dict[int, list[str]] = {id: [] for id in range(CLIENTS)}
        wanted = [str(version) for version in range(50)]

        async def write_and_read(id: int, client: StreamingClient) -> None:
            waiters = []
            for version in wanted:
                await client.send("job.create", a_job(id, script=version))
                waiters.append(await client.send("job.load", a_load(id)))
            seen[id] += [(await waiter())["script"] for waiter in waiters]

        async with trio.open_nursery() as nursery:
            for id, client in enumerate(clients):
                nursery.start_soon(write_and_read, id, client)

        assert seen == dict.fromkeys(range(CLIENTS), wanted)


async def test_each_client_gets_back_what_it_may_have_unsent(store: ValkeyProcess) -> None:
    """Were it kept, or given to another, a client would soon wait for ever."""
    async with serving(redis_url=store.url, max_unsent_bytes=65536) as app, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(streaming(ws_url(app))) for _ in range(4)]
        await clients[0].call("job.create", a_job(1))

        async def load(client: StreamingClient) -> None:
            for _ in range(200):
                await client.call("job.load", a_load(1))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for client in clients:
                    nursery.start_soon(load, client)


# -- with rights


class Members(NamedTuple):
    """A coordinator's operator and the members of a context, logged in, with the ids of their tokens."""

    app: App
    operator: StreamingClient
    admin: StreamingClient
    executor: StreamingClient
    reader: StreamingClient
    tokens: dict[int, str]


@asynccontextmanager
async def members_of(url: str, operators: Path) -> AsyncIterator[Members]:
    more: dict[str, Any] = {"auth": "keys", "operator_token_file": operators, "request_timeout": 30.0}
    async with serving(redis_url=url, store_timeout=SILENCE, **more) as app, AsyncExitStack() as stack:
        ids = (ADMIN, EXECUTOR, READER)
        # The one whose login ends is told so.
        clients = [await stack.enter_async_context(streaming(ws_url(app), lambda notices: None)) for _ in range(4)]
        operator, admin, executor, reader = clients
        await operator.call("auth.login", {"token": (await trio.Path(operators).read_text()).split()[0]})
        for id in ids:
            await operator.call("actor.create", callers.actor(id))
        roles = callers.context(CONTEXT, admins=[ADMIN], executors=[EXECUTOR], readers=[READER])
        await operator.call("context.create", roles)
        tokens = {}
        for id, client in zip(ids, clients[1:], strict=True):
            made = await operator.call("token.create", {"label": "t", "principal": f"actor:{id}"})
            tokens[id] = made["id"]
            await client.call("auth.login", {"token": made["token"]})
        yield Members(app, operator, admin, executor, reader, tokens)


async def test_each_client_sees_what_it_may(store: ValkeyProcess, tmp_path: Path) -> None:
    async with proxied(store.port) as proxy, members_of(proxy.url, tmp_path / "operators") as to:
        await to.admin.call("job.create", a_job(1, env_vars={"secret": "1"}))
        seen: dict[str, list[Any]] = {"admin": [], "reader": []}

        async def load(name: str, client: StreamingClient) -> None:
            seen[name].append(await outcome(client, "job.load", a_load(1)))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(load, "admin", to.admin)
                nursery.start_soon(load, "reader", to.reader)

        assert [job["env_vars"] for job in seen["admin"]] == [{"secret": "1"}] * 20
        assert all("secret" not in str(job) for job in seen["reader"]), "a reader sees no variables"
        assert len(seen["reader"]) == 20


async def test_what_was_sent_is_not_sent_again_for_one_who_has_lost_the_right(
    store: ValkeyProcess, tmp_path: Path
) -> None:
    """Two clients' writes are on a connection that is lost before the store has them. One of them is logged out until
    there is another: its write does not come, the other's does."""
    async with proxied(store.port) as proxy, members_of(proxy.url, tmp_path / "operators") as to:
        await to.admin.call("job.create", a_job(1, script="before"))
        await to.executor.call("job.create", a_job(1, EXECUTOR, script="before"))
        connections: Any = store.client().client_list()
        proxy.hold_back([int(one["addr"].rpartition(":")[2]) for one in connections if one["db"] == str(CONTEXT)])
        proxy.cut_each_after(0)
        found: list[Any] = []

        async def write(client: StreamingClient, caller: int) -> None:
            found.append(await outcome(client, "job.create", a_job(1, caller, script="after")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, to.admin, ADMIN)
            nursery.start_soon(write, to.executor, EXECUTOR)
            await until(lambda: [request.calls for request in requests(to.app) if request.unanswered] == [2])
            await to.operator.call("token.revoke", {"id": to.tokens[EXECUTOR]})
            await until(lambda: any(request.withheld for request in requests(to.app)))
            await proxy.pass_all()

        proxy.deliver()
        assert [job["script"] for job in found if isinstance(job, dict)] == ["after"], "the admin's is done"
        scripts = [store.client(CONTEXT).hget(f"job:{caller}:1", "script") for caller in (ADMIN, EXECUTOR)]
        assert scripts == ["after", "before"]
