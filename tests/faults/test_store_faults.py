"""What clients see when the store, or the way to it, fails: every fault is caused for real, by a proxy in front of a
real Valkey or on that Valkey itself."""

from __future__ import annotations

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import structlog
import trio

from coordinator.server.app import App
from coordinator.storage import library
from coordinator.storage.faults import StoreMisconfigured
from coordinator.storage.keys import Isolation, Layout
from tests.support.inprocess import http_url, serving, ws_url
from tests.support.proxy import Proxy, Side, proxied
from tests.support.server import ValkeyProcess, valkey
from tests.support.streaming import ErrorReply, StreamingClient, Waiter, job, job_ids, streaming
from tests.support.waiting import until

STORAGE_ERROR = -32010
INTERNAL_ERROR = -32603

IMPATIENT: dict[str, Any] = {"store_timeout": 0.4, "request_timeout": 1.0}
PATIENT: dict[str, Any] = {"store_timeout": 2.0, "request_timeout": 20.0}

both_layouts = pytest.mark.parametrize("isolation", ["index", "prefix"])


@asynccontextmanager
async def serving_client(redis_url: str, **settings: Any) -> AsyncIterator[tuple[App, StreamingClient]]:
    """A coordinator on this store and a client of it; a hang of either fails the test."""
    with trio.fail_after(60):
        async with serving(redis_url=redis_url, **settings) as app, streaming(ws_url(app)) as client:
            yield app, client


async def refused(client: StreamingClient, method: str, params: Any) -> dict[str, Any]:
    """The data of the StorageError this call must be answered with."""
    with pytest.raises(ErrorReply) as caught:
        await client.call(method, params)
    return storage_fault(caught.value)


def storage_fault(outcome: Any) -> dict[str, Any]:
    """The data of a StorageError."""
    assert isinstance(outcome, ErrorReply), outcome
    assert outcome.code == STORAGE_ERROR
    data: dict[str, Any] = outcome.data
    assert set(data) == {"detail", "may_have_been_applied"}
    return data


async def page(app: App, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=http_url(app), timeout=20, verify=False) as http:
        return await http.get(path)


# -- cut


@pytest.mark.slow
@both_layouts
async def test_every_request_gets_its_result_while_connections_are_cut(
    store: ValkeyProcess, isolation: Isolation
) -> None:
    async with (
        proxied(store.port) as proxy,
        serving_client(proxy.url, isolation=isolation, **PATIENT) as (_, client),
    ):
        created: dict[tuple[int, int], str] = {}

        async def create_jobs(context: int) -> None:
            for id in range(60):
                script = f"{context}/{id}"
                result = await client.call("job.create", job(context, id, script))
                created[context, id] = result["script"]

        cuts = 0
        async with trio.open_nursery() as cutting:

            async def cut_again_and_again() -> None:
                nonlocal cuts
                while True:
                    await proxy.until_forwarded(proxy.forwarded[Side.TO_CLIENT] + 2_000, Side.TO_CLIENT)
                    cuts += proxy.cut(reset=cuts % 2 == 0)

            cutting.start_soon(cut_again_and_again)
            async with trio.open_nursery() as workers:
                for context in range(1, 7):
                    workers.start_soon(create_jobs, context)
            cutting.cancel_scope.cancel()

        assert cuts > 10
        assert created == {(context, id): f"{context}/{id}" for context in range(1, 7) for id in range(60)}
        loaded = await client.batch([("job.load", job_ids(*key)) for key in created])
        assert [record["script"] for record in loaded] == [*created.values()]


@pytest.mark.parametrize("count", [1, 7, 500, 4_000, 9_999])
async def test_a_reply_cut_off_in_the_middle_is_asked_for_again(store: ValkeyProcess, count: int) -> None:
    async with proxied(store.port) as proxy, serving_client(proxy.url, **PATIENT) as (_, client):
        scripts = [f"{id}:" + "x" * 1_000 for id in range(12)]
        await client.batch([("job.create", job(3, id, script)) for id, script in enumerate(scripts)])

        proxy.cut_after(count, Side.TO_CLIENT)
        loaded = await client.batch([("job.load", job_ids(3, id)) for id in range(12)])

        assert [record["script"] for record in loaded] == scripts
        assert proxy.accepted == 4  # the check at start, presence, the context's first, the one after the cut


@pytest.mark.parametrize("count", [1, 300, 5_000])
async def test_a_write_cut_off_in_the_middle_is_sent_again(store: ValkeyProcess, count: int) -> None:
    async with proxied(store.port) as proxy, serving_client(proxy.url, **PATIENT) as (_, client):
        await client.call("job.create", job(3, 0, "first"))
        scripts = [f"{id}:" + "x" * 1_000 for id in range(12)]

        proxy.cut_after(count, Side.TO_STORE)
        created = await client.batch([("job.create", job(3, id, script)) for id, script in enumerate(scripts)])

        assert [record["script"] for record in created] == scripts
        loaded = await client.batch([("job.load", job_ids(3, id)) for id in range(12)])
        assert loaded == created


async def test_an_idle_connection_that_was_cut_is_not_noticed_by_clients(store: ValkeyProcess) -> None:
    async with proxied(store.port) as proxy, serving_client(proxy.url, **PATIENT) as (_, client):
        await client.call("job.create", job(3, 1, "here"))

        assert proxy.cut() == 2  # the context's, and the one presence is told on

        assert (await client.call("job.load", job_ids(3, 1)))["script"] == "here"


async def test_connections_that_break_at_every_round_are_not_made_in_a_tight_loop(store: ValkeyProcess) -> None:
    async with (
        proxied(store.port) as proxy,
        serving_client(proxy.url, store_timeout=2.0, request_timeout=1.5) as (
            _,
            client,
        ),
    ):
        await client.call("job.create", job(3, 1, "x" * 10_000))
        proxy.cut_each_after(5_000)  # lets the greeting through, not the record
        proxy.cut()
        before = proxy.accepted

        await refused(client, "job.load", job_ids(3, 1))

        assert 2 <= proxy.accepted - before < 40


# -- stall


@pytest.mark.slow
@both_layouts
async def test_a_stalled_store_is_answered_for_by_the_deadline(store: ValkeyProcess, isolation: Isolation) -> None:
    async with proxied(store.port) as proxy, serving_client(proxy.url, isolation=isolation, **IMPATIENT) as (_, client):
        await client.call("job.create", job(3, 1, "before"))
        proxy.stall()

        with trio.fail_after(10):
            write = await client.send("job.create", job(3, 1, "during"))
            read = await client.send("job.load", job_ids(3, 1))
            with pytest.raises(ErrorReply) as write_error:
                await write()
            with pytest.raises(ErrorReply) as read_error:
                await read()

        assert storage_fault(write_error.value)["may_have_been_applied"] is True
        assert storage_fault(read_error.value)["may_have_been_applied"] is False
        assert "did not answer" in write_error.value.data["detail"]


@pytest.mark.slow
async def test_a_write_that_was_never_sent_is_known_not_to_be_applied(store: ValkeyProcess) -> None:
    async with proxied(store.port) as proxy, serving_client(proxy.url, **IMPATIENT) as (_, client):
        await client.call("job.create", job(3, 1, "before"))
        proxy.stall()
        sent = await client.send("job.create", job(3, 2))
        await proxy.until_accepted(proxy.accepted + 1)  # it gave up its connection, and makes another

        unsent = await refused(client, "job.create", job(3, 3))
        elsewhere = await refused(client, "job.create", job(4, 1))

        assert unsent["may_have_been_applied"] is False
        assert elsewhere["may_have_been_applied"] is False
        with pytest.raises(ErrorReply) as caught:
            await sent()
        assert storage_fault(caught.value)["may_have_been_applied"] is True
        assert store.client(db=3).keys("job:7:3") == []


async def test_requests_waiting_for_a_stalled_store_are_served_when_it_goes_on(store: ValkeyProcess) -> None:
    async with (
        proxied(store.port) as proxy,
        serving_client(proxy.url, store_timeout=0.3, request_timeout=20.0) as (
            _,
            client,
        ),
    ):
        await client.call("job.create", job(3, 1, "before"))
        proxy.stall()
        waiters = [await client.send("job.create", job(context, 1, f"{context}")) for context in range(3, 9)]
        await proxy.until_accepted(proxy.accepted + 6)  # all have given up at least one connection

        await proxy.pass_all()

        assert [(await wait())["script"] for wait in waiters] == [f"{context}" for context in range(3, 9)]


async def test_a_pause_shorter_than_the_time_out_costs_nobody_a_connection(store: ValkeyProcess) -> None:
    async with (
        proxied(store.port) as proxy,
        serving_client(proxy.url, store_timeout=5, request_timeout=20) as (
            _,
            client,
        ),
    ):
        await client.call("job.create", job(3, 1, "before"))
        before = proxy.accepted
        proxy.stall(Side.TO_CLIENT)
        waiter = await client.send("job.load", job_ids(3, 1))
        await trio.sleep(0.2)

        await proxy.pass_all()

        assert (await waiter())["script"] == "before"
        assert proxy.accepted == before


async def test_a_coordinator_stops_in_time_while_its_store_is_stalled(store: ValkeyProcess) -> None:
    async with proxied(store.port) as proxy:
        with trio.fail_after(15):
            async with (
                serving(redis_url=proxy.url, store_timeout=60, request_timeout=60, shutdown_grace=0.3) as app,
                streaming(ws_url(app)) as client,
            ):
                await client.call("job.create", job(3, 1))
                proxy.stall()
                await client.send("job.load", job_ids(3, 1))
                app.stop()
                await client.closed.wait()
        assert client.close_code == 1001


async def test_an_http_request_is_answered_by_its_deadline_though_the_mailbox_is_full(store: ValkeyProcess) -> None:
    patient_store = {"store_timeout": 20.0, "request_timeout": 1.0, "mailbox_length": 1}
    async with proxied(store.port) as proxy, serving_client(proxy.url, **patient_store) as (app, client):
        await client.call("job.create", job(3, 1))
        proxy.stall()
        codes: list[int] = []

        async def post(http: httpx.AsyncClient) -> None:
            request = {"jsonrpc": "2.0", "id": 1, "method": "job.load", "params": job_ids(3, 1)}
            codes.append((await http.post(http_url(app), json=request)).json()["error"]["code"])

        async with httpx.AsyncClient(timeout=30, verify=False) as http:
            with trio.fail_after(8):
                async with trio.open_nursery() as posters:
                    for _ in range(5):
                        posters.start_soon(post, http)

        assert codes == [STORAGE_ERROR] * 5
        await proxy.pass_all()


# -- trickle


@both_layouts
async def test_a_store_that_trickles_is_slow_and_right(store: ValkeyProcess, isolation: Isolation) -> None:
    async with proxied(store.port) as proxy, serving_client(proxy.url, isolation=isolation, **PATIENT) as (_, client):
        script = "é\r\n$-1\r\n" * 50
        proxy.trickle(3)

        created = await client.call("job.create", job(3, 1, script))
        loaded = await client.batch([("job.load", job_ids(3, id)) for id in (1, 2, 1)])

        assert created["script"] == script
        assert loaded[0] == loaded[2] == created
        assert loaded[1].code == -32001


# -- refuse


@pytest.mark.parametrize("way", ["closed port", "closed at once"])
async def test_a_store_that_refuses_is_reported_and_used_again_when_it_is_back(store: ValkeyProcess, way: str) -> None:
    async with proxied(store.port) as proxy, serving_client(proxy.url, **IMPATIENT) as (_, client):
        await client.call("job.create", job(3, 1, "kept"))
        if way == "closed port":
            await proxy.refuse()
        else:
            proxy.reject()

        with trio.fail_after(10):
            fault = await refused(client, "job.load", job_ids(4, 1))
        await proxy.pass_all()

        assert "store" in fault["detail"]
        assert ("refused" if way == "closed port" else "lost") in fault["detail"]
        assert (await client.call("job.load", job_ids(3, 1)))["script"] == "kept"


async def test_a_store_that_is_not_there_at_start_is_waited_for(store: ValkeyProcess) -> None:
    async with proxied(store.port) as proxy:
        await proxy.refuse()
        async with serving_client(proxy.url, **PATIENT) as (_, client):
            early = await client.send("job.create", job(3, 1, "early"))
            await trio.sleep(0.1)

            await proxy.pass_all()

            assert (await early())["script"] == "early"


@pytest.mark.slow
async def test_something_else_that_listens_there_is_no_store() -> None:
    async def speak_http(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, speak_http, [listener])
        port = listener.socket.getsockname()[1]
        async with serving_client(f"redis://127.0.0.1:{port}", **IMPATIENT) as (_, client):
            fault = await refused(client, "job.load", job_ids(3, 1))
        nursery.cancel_scope.cancel()

    assert "Protocol error" in fault["detail"]


# -- health


@pytest.mark.slow
async def test_readiness_follows_the_store_and_health_does_not(store: ValkeyProcess) -> None:
    async with proxied(store.port) as proxy, serving_client(proxy.url, **IMPATIENT) as (app, _):
        assert (await page(app, "/readyz")).status_code == 200

        await proxy.refuse()
        away, health = await page(app, "/readyz"), await page(app, "/healthz")
        await proxy.pass_all()

        assert away.status_code == 503
        assert "refused" in away.json()["reason"]
        assert health.status_code == 200
        with trio.fail_after(10):
            while (await page(app, "/readyz")).status_code != 200:
                pass


@pytest.mark.slow
async def test_readiness_is_answered_soon_while_requests_wait_for_a_stalled_store(store: ValkeyProcess) -> None:
    async with (
        proxied(store.port) as proxy,
        serving_client(proxy.url, store_timeout=1.0, request_timeout=30) as (
            app,
            client,
        ),
    ):
        proxy.stall()
        await client.send("actor.load", {"id": 1})  # goes where the probe goes, and may wait much longer

        with trio.fail_after(10):
            response = await page(app, "/readyz")

        assert response.status_code == 503
        await proxy.pass_all()


# -- what the server says no to


async def test_a_context_beyond_the_servers_databases_is_told_so_and_others_are_served(tmp_path: Path) -> None:
    with valkey(tmp_path, "--databases", "16") as small:
        async with serving_client(small.url, **PATIENT) as (_, client):
            outcomes = await client.batch(
                [("job.create", job(context, 1, f"{context}")) for context in (15, 16, 0, 2**32 - 1, 1)]
            )

        assert [outcomes[at]["script"] for at in (0, 2, 4)] == ["15", "0", "1"]
        for at, context in ((1, 16), (3, 2**32 - 1)):
            fault = storage_fault(outcomes[at])
            assert "`databases`" in fault["detail"]
            assert f"context {context}" in fault["detail"]
            assert fault["may_have_been_applied"] is False

        async with serving_client(small.url, isolation="prefix", **PATIENT) as (_, client):
            assert (await client.call("job.create", job(2**32 - 1, 1, "last")))["script"] == "last"


@both_layouts
async def test_a_key_of_another_type_fails_its_own_requests_only(store: ValkeyProcess, isolation: Isolation) -> None:
    layout = Layout(isolation)
    foreign = layout.keyspace(3).job(7, 1)
    store.client(layout.database_of(3)).lpush(foreign, "not a record")

    async with serving_client(store.url, isolation=isolation, **PATIENT) as (_, client):
        outcomes = await client.batch(
            [
                ("job.create", job(3, 2, "fine")),
                ("job.create", job(3, 1, "in vain")),
                ("job.create", job(3, 3, "fine, too")),
                ("job.load", job_ids(3, 2)),
                ("job.load", job_ids(3, 1)),
                ("job.load", job_ids(3, 3)),
                ("job.create", job(3, 1, "alone")),
                ("job.load", job_ids(3, 1)),
            ]
        )

    assert outcomes[0] == outcomes[3]
    assert outcomes[2] == outcomes[5]
    for outcome in (outcomes[1], outcomes[4], *outcomes[6:]):
        assert "WRONGTYPE" in storage_fault(outcome)["detail"]
    assert store.client(layout.database_of(3)).lrange(foreign, 0, -1) == ["not a record"]


async def test_a_fault_of_the_function_library_is_an_incident_of_its_own_request_only(store: ValkeyProcess) -> None:
    def flow(id: int) -> tuple[str, dict[str, Any]]:
        spec = {"id": id, "caller_id": 7, "context_id": 3, "jobs": [id], "env_vars": {}}
        return "flow.submit", {"context_id": 3, "flow": spec, "jobs": [job(3, id)["job"]]}

    async with serving_client(store.url, **PATIENT) as (_, client):
        await client.batch([flow(id) for id in (1, 2, 3)])
        runner = {"id": 1, "pubkey": "", "address": "127.0.0.1", "topic": "t", "local": True}
        await client.call("runner.create", {"context_id": 3, "runner": runner})
        take = {"context_id": 3, "runner_id": 1, "script_types": ["Python"]}
        taken = [(await client.call("job.take", take))["jobs"][0] for _ in range(3)]
        store.client(db=3).hset("flow:2", "x_pending", "some")

        finished = await client.batch(
            [
                ("job.finish", {"context_id": 3, "caller_id": 7, "id": one["job"]["id"], "token": one["token"]})
                for one in taken
            ]
        )
        flows = await client.batch([("flow.load", {"context_id": 3, "id": id}) for id in (1, 2, 3)])

    by_id = {one["job"]["id"]: outcome for one, outcome in zip(taken, finished, strict=True)}
    assert by_id[2].code == -32603
    assert by_id[2].data["incident"]
    assert by_id[1]["status"] == by_id[3]["status"] == "Finished"
    assert [flow["status"] for flow in flows] == ["Finished", "Started", "Finished"]


async def test_a_record_without_one_of_its_fields_is_told_apart_by_that_field(store: ValkeyProcess) -> None:
    async with serving_client(store.url, **PATIENT) as (_, client):
        await client.batch([("job.create", job(3, id)) for id in (1, 2)])
        store.client(db=3).hdel("job:7:1", "script_type")

        broken, whole = await client.batch([("job.load", job_ids(3, id)) for id in (1, 2)])

    assert "'script_type'" in storage_fault(broken)["detail"]
    assert "caller_id 7, id 1" in broken.data["detail"]
    assert whole["script_type"] == "Python"


async def test_a_record_with_bytes_that_are_no_text_fails_its_own_request_only(store: ValkeyProcess) -> None:
    async with serving_client(store.url, **PATIENT) as (_, client):
        await client.batch([("job.create", job(3, id, "text")) for id in (1, 2)])
        store.client(db=3).hset("job:7:1", "script", b"\xff\xfe")

        broken, whole = await client.batch([("job.load", job_ids(3, id)) for id in (1, 2)])

    assert isinstance(broken, ErrorReply)
    assert broken.code == INTERNAL_ERROR
    assert broken.data["incident"]
    assert whole["script"] == "text"


@both_layouts
async def test_a_server_whose_functions_were_flushed_gets_them_again(
    store: ValkeyProcess, isolation: Isolation
) -> None:
    async with serving_client(store.url, isolation=isolation, **PATIENT) as (_, client):
        await client.call("job.create", job(3, 1, "before"))
        store.client().function_flush("SYNC")

        assert (await client.call("job.create", job(3, 1, "after")))["script"] == "after"
        assert (await client.call("job.create", job(4, 1, "elsewhere")))["script"] == "elsewhere"


async def test_a_load_stays_behind_a_create_that_had_to_be_sent_again(store: ValkeyProcess) -> None:
    async with serving_client(store.url, **PATIENT) as (_, client):
        await client.call("job.create", job(3, 1, "before"))
        store.client().function_flush("SYNC")

        _, loaded = await client.batch([("job.create", job(3, 1, "after")), ("job.load", job_ids(3, 1))])

    assert loaded["script"] == "after"


async def test_a_store_busy_with_a_script_is_waited_for(tmp_path: Path) -> None:
    with valkey(tmp_path, "--busy-reply-threshold", "20") as own:
        async with serving_client(own.url, **PATIENT) as (_, client), trio.open_nursery() as nursery:
            await client.call("job.create", job(3, 1, "before"))
            nursery.start_soon(trio.to_thread.run_sync, loop_forever, own)
            await until(lambda: is_busy(own))

            known = await client.send("job.create", job(3, 1, "after"))
            new = await client.send("job.create", job(4, 1, "elsewhere"))
            await trio.sleep(0.2)
            own.client().script_kill()

            assert (await known())["script"] == "after"
            assert (await new())["script"] == "elsewhere"


def loop_forever(own: ValkeyProcess) -> None:
    with pytest.raises(redis.exceptions.ResponseError, match="killed"):
        own.client().eval("while true do end", 0)


def is_busy(own: ValkeyProcess) -> bool:
    try:
        own.client().get("anything")
    except redis.exceptions.ResponseError as error:
        return "BUSY" in str(error)
    return False


async def test_a_store_with_no_room_for_another_client_is_waited_for(tmp_path: Path) -> None:
    with valkey(tmp_path) as own:
        async with serving_client(own.url, **PATIENT) as (_, client):
            await client.call("job.create", job(3, 1, "connected"))
            server = own.client()
            server.config_set("maxclients", "1")

            with structlog.testing.capture_logs() as logs:
                new = await client.send("job.create", job(4, 1, "elsewhere"))
                await trio.sleep(0.2)
            assert (await client.call("job.load", job_ids(3, 1)))["script"] == "connected"
            server.config_set("maxclients", "100")

            assert (await new())["script"] == "elsewhere"
    assert any("max number of clients reached" in entry.get("reason", "") for entry in logs)


@pytest.mark.parametrize("why", ["no replica", "no snapshot"])
async def test_a_store_that_takes_no_writes_is_still_read_from(tmp_path: Path, why: str) -> None:
    """In contexts, too, that nobody has used yet."""
    with valkey(tmp_path) as own, own.client() as server:
        async with serving_client(own.url, **IMPATIENT) as (_, client):
            await client.call("job.create", job(3, 1, "before"))
            if why == "no replica":
                server.config_set("min-replicas-to-write", 1)
            else:
                shutil.rmtree(tmp_path)
                server.config_set("save", "3600 1")
                server.bgsave()
                await until(lambda: server.info("persistence")["rdb_last_bgsave_status"] == "err")

            with structlog.testing.capture_logs() as logs:
                assert (await client.call("job.load", job_ids(3, 1)))["script"] == "before"
                absent = await client.batch([("job.load", job_ids(4, 1))])
                await refused(client, "job.create", job(4, 1))

    assert absent[0].code == -32001
    assert not [entry for entry in logs if "cannot be reached" in entry["event"]]


def may(server: Any, command: str) -> bool:
    """Whether the user `hero` may call a command, with as few arguments as it takes."""
    arity = abs(server.execute_command("COMMAND", "INFO", command)[command]["arity"])
    arguments = (
        ("STREAM", "x") if command == "xinfo" else ("USAGE", "x") if command == "memory" else ("1",) * (arity - 1)
    )
    told = server.execute_command("ACL", "DRYRUN", "hero", command, *arguments)
    return bool(told == "OK" or "wrong number" in str(told))


def documented_rights() -> list[str]:
    text = (Path(__file__).parents[2] / "docs/operations/storage.md").read_text(encoding="utf-8")
    rule = re.search(r"^ACL SETUSER hero on >PASSWORD ([^`]*)^```$", text, re.MULTILINE)
    assert rule is not None
    return rule[1].replace("\\\n", " ").split()


async def test_the_documented_rights_are_enough(tmp_path: Path) -> None:
    with valkey(tmp_path) as own, own.client() as server:
        server.execute_command("ACL", "SETUSER", "hero", "on", ">word", *documented_rights())
        url = f"redis://hero:word@127.0.0.1:{own.port}"

        async with serving_client(url, auth="none", **PATIENT) as (app, client):
            await client.call("context.create", {"context": {"id": 3, "admins": [7], "readers": [], "executors": [7]}})
            await client.batch([("job.create", job(3, id)) for id in range(3)])
            await client.call("job.list", {"context_id": 3})
            await client.call("prerequisite.satisfy", {"context_id": 3, "name": "disk"})
            assert (await page(app, "/readyz")).status_code == 200
        logged = server.execute_command("ACL", "LOG")
        ours = {name.lower() for name in re.findall(r"redis\.p?call\('([A-Z]+)'", library.SOURCE)}
        refused_ones = [name for name in sorted(ours) if not may(server, name)]

    assert logged == []
    assert refused_ones == []


@both_layouts
async def test_a_user_who_may_not_do_what_is_needed_is_told_so_at_once(
    store: ValkeyProcess, isolation: Isolation
) -> None:
    with store.client() as server:
        server.acl_setuser("less", enabled=True, nopass=True, keys=["*"], channels=["*"], categories=["+@all"])
        try:
            server.execute_command("ACL", "SETUSER", "less", "-fcall")
            with trio.fail_after(20), pytest.RaisesGroup(StoreMisconfigured, flatten_subgroups=True) as caught:
                async with serving(redis_url=f"redis://less:any@127.0.0.1:{store.port}"):
                    pass
            server.execute_command("ACL", "SETUSER", "less", "+fcall", "-hget")
            async with serving_client(
                f"redis://less:any@127.0.0.1:{store.port}", isolation=isolation, **{**PATIENT, "request_timeout": 60}
            ) as (_, client):
                with structlog.testing.capture_logs() as logs, trio.fail_after(10):
                    faults = [await refused(client, "job.load", job_ids(5, id)) for id in range(20)]
        finally:
            server.acl_deluser("less")

    assert "fcall" in text_of(caught.value)
    assert all("'hget'" in fault["detail"] for fault in faults)
    assert len([entry for entry in logs if "not serve this context" in entry["event"]]) == 1


async def test_a_store_that_only_reads_is_waited_for(store: ValkeyProcess) -> None:
    server = store.client()
    async with serving_client(store.url, **PATIENT) as (_, client):
        await client.call("job.create", job(3, 1, "before"))
        server.replicaof("127.0.0.1", "1")
        try:
            write = await client.send("job.create", job(3, 1, "after"))
            await trio.sleep(0.2)
        finally:
            server.replicaof("NO", "ONE")

        assert (await write())["script"] == "after"


# -- writes whose outcome is not known


async def test_a_write_that_was_sent_and_then_locked_out_may_have_been_applied(tmp_path: Path) -> None:
    with valkey(tmp_path) as own:
        async with proxied(own.port) as proxy, serving_client(proxy.url, **PATIENT) as (_, client):
            await client.call("job.create", job(3, 1, "before"))
            waiter = await applied_without_reply(own, proxy, client)
            own.client().config_set("requirepass", "changed")

            fault = await fault_after_cut(proxy, waiter)

        assert "NOAUTH" in fault["detail"]
        assert fault["may_have_been_applied"] is True


async def test_a_write_that_was_applied_is_answered_though_the_store_would_refuse_it_now(tmp_path: Path) -> None:
    with valkey(tmp_path) as own:
        async with proxied(own.port) as proxy, serving_client(proxy.url, **PATIENT) as (_, client):
            await client.call("job.create", job(3, 1, "before"))
            waiter = await applied_without_reply(own, proxy, client)
            own.client().config_set("maxmemory", "1")

            proxy.cut()
            await proxy.pass_all()

            assert (await waiter())["script"] == "after"


async def applied_without_reply(own: ValkeyProcess, proxy: Proxy, client: StreamingClient) -> Waiter:
    """Send a write that the store carries out and whose reply does not come."""
    proxy.stall(Side.TO_CLIENT)
    waiter = await client.send("job.create", job(3, 1, "after"))
    await until(lambda: own.client(db=3).hget("job:7:1", "script") == "after")
    return waiter


async def fault_after_cut(proxy: Proxy, waiter: Waiter) -> dict[str, Any]:
    """Make the coordinator send it again; the data of the StorageError that comes of it."""
    proxy.cut()
    await proxy.pass_all()
    with pytest.raises(ErrorReply) as caught:
        await waiter()
    return storage_fault(caught.value)


# -- ways to the store


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    """A Valkey with a password, a second user, and a Unix socket."""
    directory = tmp_path_factory.mktemp("guarded")
    with valkey(directory, "--unixsocket", str(directory / "socket")) as running:
        server = running.client()
        server.acl_setuser(
            "hero", enabled=True, passwords=["+open@/:"], keys=["*"], channels=["*"], categories=["+@all"]
        )
        server.config_set("requirepass", "sesame")
        yield running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a self-signed certificate for 127.0.0.1."""
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", "key.pem", "-out", "certificate.pem", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    return directory


def tls_server(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "certificate.pem", certificate / "key.pem")
    return context


def text_of(error: BaseException) -> str:
    """What the one exception in these groups says."""
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    return str(error)


@both_layouts
@pytest.mark.parametrize(
    "url",
    [
        "redis://:sesame@127.0.0.1:{port}",
        "valkey://default:sesame@localhost:{port}",
        "redis://hero:open%40%2F%3A@127.0.0.1:{port}",
        "unix://:sesame@{directory}/socket",
        "unix://hero:open%40%2F%3A@{directory}/socket?db=0",
    ],
)
async def test_a_store_is_reached_with_credentials_and_by_socket(
    guarded: ValkeyProcess, url: str, isolation: Isolation
) -> None:
    redis_url = url.format(port=guarded.port, directory=guarded.directory)
    async with serving_client(redis_url, isolation=isolation, **PATIENT) as (_, client):
        created = await client.call("job.create", job(3, 1, url))

        assert created["script"] == url
        assert await client.call("job.load", job_ids(3, 1)) == created


@both_layouts
@pytest.mark.parametrize("options", ["ssl_ca_certs={directory}/certificate.pem", "ssl_cert_reqs=none"])
async def test_a_store_is_reached_over_tls(
    store: ValkeyProcess, certificate: Path, options: str, isolation: Isolation
) -> None:
    async with proxied(store.port, tls_server(certificate)) as proxy:
        redis_url = f"{proxy.url}?{options.format(directory=certificate)}"
        async with serving_client(redis_url, isolation=isolation, **PATIENT) as (_, client):
            script = "x" * 100_000  # more than a TLS record
            created = await client.call("job.create", job(3, 1, script))
            proxy.cut()

            assert created["script"] == script
            assert await client.call("job.load", job_ids(3, 1)) == created


async def test_a_tls_store_nobody_vouches_for_is_refused_at_start(store: ValkeyProcess, certificate: Path) -> None:
    async with proxied(store.port, tls_server(certificate)) as proxy:
        with trio.fail_after(20), pytest.RaisesGroup(StoreMisconfigured, flatten_subgroups=True) as caught:
            async with serving(redis_url=proxy.url):
                pass
    assert "self" in text_of(caught.value)
    assert "certificate" in text_of(caught.value)


async def test_a_store_a_newer_coordinator_has_used_is_refused_at_start(store: ValkeyProcess) -> None:
    newer = library.SOURCE.replace(f"VERSION = '{library.VERSION}'", "VERSION = '999'")
    with store.client() as client:
        client.execute_command("FUNCTION LOAD", "REPLACE", newer)
        try:
            with trio.fail_after(20), pytest.RaisesGroup(StoreMisconfigured, flatten_subgroups=True) as caught:
                async with serving(redis_url=store.url):
                    pass
        finally:
            client.execute_command("FUNCTION LOAD", "REPLACE", library.SOURCE)
    assert "version 999" in text_of(caught.value)


@pytest.mark.parametrize("credentials", ["", ":wrong@", "nobody:sesame@"])
async def test_wrong_credentials_end_the_start(guarded: ValkeyProcess, credentials: str) -> None:
    with trio.fail_after(20), pytest.RaisesGroup(StoreMisconfigured, flatten_subgroups=True) as caught:
        async with serving(redis_url=f"redis://{credentials}127.0.0.1:{guarded.port}"):
            pass
    assert ("WRONGPASS" if credentials else "NOAUTH") in text_of(caught.value)


def test_the_command_line_says_in_one_line_that_the_password_is_wrong(guarded: ValkeyProcess) -> None:
    command = [
        sys.executable,
        "-m",
        "coordinator",
        "serve",
        "--api-http-port",
        "0",
        "--api-ws-port",
        "0",
        "--workers",
        "1",
    ]
    command += ["--redis-url", f"redis://:wrong@127.0.0.1:{guarded.port}"]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode not in (0, -signal.SIGKILL)
    (line,) = ended.stderr.splitlines()
    assert "WRONGPASS" in line
    assert f"127.0.0.1:{guarded.port}" in line
    assert "wrong@" not in line


# -- the server killed


@both_layouts
async def test_a_killed_valkey_that_comes_back_loses_no_request(tmp_path: Path, isolation: Isolation) -> None:
    durable = partial(valkey, tmp_path, "--appendonly", "yes", "--appendfsync", "always", "--databases", "64")
    with durable() as own:
        async with serving_client(own.url, isolation=isolation, **PATIENT) as (_, client):
            created: list[tuple[int, int]] = []

            async def create_jobs(context: int) -> None:
                for id in range(100):
                    result = await client.call("job.create", job(context, id, f"{context}/{id}"))
                    assert result["script"] == f"{context}/{id}"
                    created.append((context, id))

            async with trio.open_nursery() as workers:
                for context in range(1, 5):
                    workers.start_soon(create_jobs, context)
                for count in (40, 200):
                    await until(lambda: len(created) >= count)  # noqa: B023 - awaited at once
                    os.kill(own.process.pid, signal.SIGKILL)
                    await trio.to_thread.run_sync(own.process.wait)
                    await trio.to_thread.run_sync(own.start)

            assert len(created) == 400
            loaded = await client.batch([("job.load", job_ids(*key)) for key in created])
            assert [record["script"] for record in loaded] == [f"{context}/{id}" for context, id in created]


async def test_a_valkey_that_lost_its_data_is_told_again_which_contexts_exist(tmp_path: Path) -> None:
    with valkey(tmp_path) as own:
        async with serving_client(own.url, **PATIENT) as (_, client):
            await client.call("job.create", job(3, 1))
            own.kill()
            own.start()

            await client.call("job.create", job(3, 1))

            assert own.client().zrange("contexts", 0, -1) == ["3"]
