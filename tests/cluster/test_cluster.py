"""A coordinator on a real cluster: contexts are spread over its nodes, follow their slots, and lose nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

import httpx
import pytest
import trio
from click.testing import CliRunner

from coordinator.cli.doctor import doctor
from coordinator.engine import engine, membership, pubsub
from coordinator.models.flows import FlowSubmitParams
from coordinator.operations.flows import submit_flow
from coordinator.settings import Settings
from coordinator.storage.cluster import slot_of
from coordinator.storage.faults import StoreMisconfigured
from coordinator.storage.keys import GLOBAL, Layout
from tests.flows.test_nothing_left import OF_NOTHING, request
from tests.support.api import Api, Caller
from tests.support.cluster import ValkeyCluster, ask, context_in
from tests.support.clustered import clients_of, in_thread, running_flows, serving_store
from tests.support.flows import chain, submission, submit
from tests.support.inprocess import http_url, serving, ws_url
from tests.support.load import loading, stored
from tests.support.server import ValkeyProcess, coordinator
from tests.support.streaming import ErrorReply, job, job_ids
from tests.support.waiting import until
from tests.support.workers import follower, worker

pytestmark = pytest.mark.slow

PREFIX: Final = {"isolation": "prefix"}
STORAGE_ERROR: Final = -32010

_used: list[int] = []


def contexts_of(three: ValkeyCluster, node: ValkeyProcess, count: int = 1) -> list[int]:
    """Contexts no other test uses, on this node."""
    slots = three.shares[three.primaries.index(node)]
    found = []
    for _ in range(count):
        found.append(context_in(slots, _used))
        _used.append(found[-1])
    return found


def elsewhere(three: ValkeyCluster, address: int | None) -> ValkeyProcess:
    """A primary that does not have this slot."""
    owner = three.owner(address)
    return next(node for node in three.primaries if node is not owner)


# -- spread


async def test_contexts_are_spread_over_all_nodes_and_served_alike(three: ValkeyCluster) -> None:
    by_node = {node.port: contexts_of(three, node, 8) for node in three.primaries}
    contexts = [context for found in by_node.values() for context in found]
    async with serving_store(three.url, **PREFIX) as (_, clients):
        for client in clients:
            api = Api(client)
            for context in contexts:
                record = {"id": context, "admins": [1], "readers": [], "executors": []}
                created = await api.call("context.create", context=record)
                assert await api.call("context.load", id=context) == created
            await api.call("actor.create", actor={"id": 1, "pubkey": "k", "address": ["10.0.0.1"]})
            assert (await api.call("actor.load", id=1))["pubkey"] == "k"
        async with loading(clients, contexts) as load:
            await load.goes_on()

        assert await stored(clients[1], load.acknowledged) == load.acknowledged
        listed = await Api(clients[1]).call("context.list", limit=1000)
        assert {*contexts} <= {*listed["items"]}

    for node in three.primaries:
        jobs = node.client().scan_iter("{*}:job:*", count=1000)
        found = {int(key[1 : key.index("}")]) for key in jobs} & {*contexts}
        assert found == {*by_node[node.port]}


def test_slots_are_those_the_cluster_computes(three: ValkeyCluster) -> None:
    layout = Layout("prefix", is_spread=True)
    for address in (GLOBAL, 0, 1, 2**32 - 1):
        keys = layout.keyspace(address)
        for key in (keys.actor(1), f"{keys.prefix}waiting:{{x}}", keys.absent):
            assert ask(three.primaries[0], "CLUSTER", "KEYSLOT", key) == slot_of(address)


async def test_all_that_a_function_touches_is_in_its_contexts_slot(three: ValkeyCluster) -> None:
    for node in three.primaries:
        (context,) = contexts_of(three, node)
        async with serving_store(three.url, **PREFIX) as (app, clients):
            api = Api(clients[1])
            async with running_flows(ws_url(app), [context]) as flows, follower(ws_url(app), context, 1_000_000):
                await flows.go_on()
            await submit(api, context, chain(2), 1, prerequisites=["go"])
            await api.call("flow.cancel", context_id=context, id=1)
            await api.call("flow.retry", context_id=context, id=1)
            await api.call("prerequisite.satisfy", context_id=context, name="go")
            await api.call("flow.cancel", context_id=context, id=1, reason="done")
            await api.call("flow.delete", context_id=context, id=1)
            message = {
                "id": 1,
                "caller_id": 7,
                "context_id": context,
                "message": "run",
                "message_type": "Python",
                "message_format_type": "Text",
                "timeout": 60,
                "timeout_ack": 60,
                "timeout_result": 60,
                "job": [],
                "logs": [],
            }
            await api.call("message.create", context_id=context, message=message)
            await api.call("message.send", context_id=context, caller_id=7, id=1)

        keys = {key for key in node.client().scan_iter(count=1000) if key.startswith(f"{{{context}}}:")}
        assert {f"{{{context}}}:{name}" for name in ("engine", "index:job", "index:flow", "message:7:1")} <= keys


async def test_a_node_that_has_lost_the_function_library_gets_it_again(three: ValkeyCluster) -> None:
    (context,) = contexts_of(three, three.primaries[0])
    async with serving_store(three.url, **PREFIX) as (_, clients), loading(clients, [context]) as load:
        three.primaries[0].client().function_flush()
        await load.goes_on()


# -- slots that move


@pytest.mark.parametrize("way", ["key by key", "at once"])
async def test_a_slot_moves_under_load_and_nothing_is_lost_and_nothing_fails(three: ValkeyCluster, way: str) -> None:
    moving, *others = [context for node in three.primaries for context in contexts_of(three, node)]
    home, target = three.owner(moving), elsewhere(three, moving)

    async with serving_store(three.url, **PREFIX) as (app, clients):
        async with running_flows(ws_url(app), [moving]) as flows, loading(clients, [moving, *others]) as load:
            for there in (target, home):
                if way == "at once":
                    await in_thread(three.move_at_once, moving, there)
                else:
                    await in_thread(three.begin_move, moving, there)
                    await trio.sleep(0.2)
                    await in_thread(three.move_keys, moving, there)
                    await in_thread(three.end_move, moving, there)
                assert three.owner(moving) is there
                await load.goes_on()
                await flows.go_on()

        assert await stored(clients[1], load.acknowledged) == load.acknowledged


async def test_while_a_slot_is_half_moved_its_context_waits_and_no_other(three: ValkeyCluster) -> None:
    moving, *others = [context for node in three.primaries for context in contexts_of(three, node, 2)]
    home, target = three.owner(moving), elsewhere(three, moving)
    answers: list[Any] = []
    async with serving_store(three.url, **PREFIX) as (_, clients):
        async with loading(clients, [moving, *others]) as load:
            pass
        await in_thread(three.begin_move, moving, target)
        assert await in_thread(lambda: three.move_keys(moving, target, most=10)) == 10

        async def create_and_load(client: Caller, id: int) -> None:
            answers.append(await client.call("job.create", job(moving, id, "late")))
            answers.append(await client.call("job.load", job_ids(moving, id)))

        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(create_and_load, client, 500_000)  # new
                nursery.start_soon(create_and_load, client, 1)  # there before
            async with loading(clients, others):
                assert answers == []
            await in_thread(three.move_keys, moving, target)
            assert answers == []
            await in_thread(three.end_move, moving, target)

        assert {answer["script"] for answer in answers} == {"late"}
        load.acknowledged.pop((moving, 1), None)
        assert await stored(clients[1], load.acknowledged) == load.acknowledged
    three.move_at_once(moving, home)


async def test_a_request_that_a_move_outlasts_says_so_and_was_not_applied(three: ValkeyCluster) -> None:
    (moving,) = contexts_of(three, three.primaries[0])
    home, target = three.owner(moving), elsewhere(three, moving)
    settings: dict[str, Any] = {**PREFIX, "request_timeout": 1.0}
    async with serving_store(three.url, **settings) as (_, clients):
        await clients[0].call("job.create", job(moving, 1, "old"))
        await in_thread(
            three.client(moving).hset, f"{{{moving}}}:engine", "tokens", 7
        )  # one of a function's keys is there
        await in_thread(three.begin_move, moving, target)
        for id, answer in ((1, "TRYAGAIN"), (2, "ASK")):
            if id == 2:
                await in_thread(three.move_keys, moving, target)
            with pytest.raises(ErrorReply) as caught:
                await clients[1].call("job.create", job(moving, id, "new"))

            assert caught.value.code == STORAGE_ERROR
            assert answer in caught.value.data["detail"]
        await in_thread(three.end_move, moving, target)

        assert (await clients[0].call("job.load", job_ids(moving, 1)))["script"] == "old"
        with pytest.raises(ErrorReply, match="no job"):
            await clients[0].call("job.load", job_ids(moving, 2))
    three.move_at_once(moving, home)


async def test_the_global_slot_moves_under_load(three: ValkeyCluster) -> None:
    home, target = three.owner(GLOBAL), elsewhere(three, GLOBAL)
    contexts = [context for node in three.primaries for context in contexts_of(three, node)]
    async with serving_store(three.url, **PREFIX) as (_, clients), loading(clients, contexts) as load:
        for there in (target, home):
            await in_thread(three.begin_move, GLOBAL, there)
            await in_thread(three.move_keys, GLOBAL, there)
            await in_thread(three.end_move, GLOBAL, there)
            await load.goes_on()
            api = Api(clients[0])
            await api.call("actor.create", actor={"id": 2, "pubkey": str(there.port), "address": ["10.0.0.1"]})
            assert there.client().hget("{global}:actor:2", "pubkey") == str(there.port)


# -- contexts that are noted on another node


async def test_a_contexts_first_write_is_not_acknowledged_before_it_is_noted(three: ValkeyCluster) -> None:
    known, new = contexts_of(three, elsewhere(three, GLOBAL), 2)
    answered: list[Any] = []
    async with serving_store(three.url, **PREFIX) as (_, clients):
        await clients[0].call("job.create", job(known, 1))
        paused = three.client(GLOBAL)
        paused.client_pause(60_000, all=False)
        try:
            async with trio.open_nursery() as nursery:

                async def create() -> None:
                    answered.append(await clients[1].call("job.create", job(new, 1, "new")))

                nursery.start_soon(create)
                async with loading(clients, [known]):
                    pass
                assert answered == []
                assert three.client(new).exists(f"{{{new}}}:job:7:1") == 0
                paused.client_unpause()
        finally:
            paused.client_unpause()

        assert answered[0]["script"] == "new"
        assert paused.zscore("{global}:contexts", new) == new


async def test_what_was_noted_is_noted_again_when_its_node_may_have_lost_it(three: ValkeyCluster) -> None:
    contexts = contexts_of(three, elsewhere(three, GLOBAL), 3)
    async with serving_store(three.url, **PREFIX) as (_, clients):
        for context in contexts:
            await clients[0].call("job.create", job(context, 1))
        node = three.client(GLOBAL)
        node.zrem("{global}:contexts", *contexts)
        node.client_kill_filter(_type="normal", skipme=True)

        await until(lambda: node.zmscore("{global}:contexts", [*map(str, contexts)]) == contexts)


@pytest.mark.parametrize("place", ["where GLOBAL is", "elsewhere"])
@pytest.mark.parametrize("together", [True, False])
async def test_what_comes_to_nothing_leaves_nothing_there(three: ValkeyCluster, place: str, together: bool) -> None:
    node = three.owner(GLOBAL) if place == "where GLOBAL is" else elsewhere(three, GLOBAL)
    unknown, known = contexts_of(three, node, 2)
    global_node, own = three.client(GLOBAL), three.client(unknown)
    calls = [request(method, {"context_id": unknown, **params}, id=1) for method, params in OF_NOTHING]
    async with serving_store(three.url, **PREFIX) as (app, clients), httpx.AsyncClient(base_url=http_url(app)) as http:
        for body in [calls] if together else calls:
            await http.post("/", json=body)

        assert global_node.zscore("{global}:contexts", unknown) is None
        assert not any(global_node.sismember(key, str(unknown)) for key in global_node.keys("{global}:engaged:*"))
        await until(lambda: own.keys(f"{{{unknown}}}:*") == [])

        # What creates something makes it known, although something was written there before in vain.
        await clients[1].call("job.create", job(known, 1))
        await http.post("/", json=request("flow.cancel", {"context_id": unknown, "id": 1}, id=1))
        await clients[0].call("job.create", job(unknown, 1))
        assert global_node.zscore("{global}:contexts", unknown) == unknown
        assert {str(unknown), str(known)} <= {
            member for key in global_node.keys("{global}:engaged:*") for member in global_node.smembers(key)
        }


async def test_a_context_that_another_has_made_known_is_ours_once_we_write_to_it(three: ValkeyCluster) -> None:
    (context,) = contexts_of(three, elsewhere(three, GLOBAL))
    node = three.client(GLOBAL)

    def owners() -> int:
        return sum(node.sismember(key, str(context)) for key in node.keys("{global}:engaged:*"))

    async with serving_store(three.url, **PREFIX) as (_, first), serving_store(three.url, **PREFIX) as (_, second):
        await first[0].call("job.create", job(context, 1))
        assert owners() == 1
        with pytest.raises(ErrorReply):
            await second[1].call("flow.cancel", {"context_id": context, "id": 1})
        assert owners() == 2


# -- two coordinators


async def test_two_coordinators_share_a_cluster(three: ValkeyCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "DEAD_AFTER", 3.0)
    monkeypatch.setattr(engine, "MEMBERSHIP_EVERY", 0.2)
    contexts = [context for node in three.primaries for context in contexts_of(three, node)]
    with coordinator("--redis-url", three.url, "--isolation", "prefix") as there:
        async with serving_store(three.url, **PREFIX) as (app, clients), clients_of(there.http, there.ws) as others:
            for context in contexts:
                async with worker(ws_url(app), context) as runner:
                    await submit(Api(others[0]), context, chain(3))
                    async with follower(there.ws, context) as following:
                        for _ in range(3):
                            await runner.finish(await runner.job())
                        await following.until(kind="flow", status="Finished")
                async with worker(there.ws, context, lease=1.0) as runner:
                    await submit(Api(others[1]), context, chain(1, 10), 10, retries=1)
                    await runner.job()

            there.kill()  # what it saw to is seen to here: the lease runs out, and the job is given out again
            for context in contexts:
                async with worker(ws_url(app), context) as runner:
                    await runner.finish(await runner.job())
                assert (await clients[0].call("flow.load", {"context_id": context, "id": 10}))["status"] == "Finished"


async def test_news_lost_between_nodes_is_made_up_for(three: ValkeyCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pubsub, "LOOK_EVERY", 0.5)
    (context,) = contexts_of(three, elsewhere(three, GLOBAL))
    async with serving_store(three.url, **PREFIX) as (app, _), worker(ws_url(app), context) as runner:
        node, channel = three.client(GLOBAL), f"herocoordinator:{context}"
        await until(lambda: node.pubsub_numsub(channel) == [(channel, 1)])
        # Submitted at another node, which says so where nobody hears it.
        keys = replace(Layout("prefix", is_spread=True).keyspace(context), context_key=2**32 - 1)
        params = FlowSubmitParams.model_validate(submission(context, chain(1)))
        step = next(submit_flow(keys, params))
        assert isinstance(step, list)
        ask(three.owner(context), *step[0])

        await runner.finish(await runner.job())


# -- settings


async def test_a_cluster_and_a_database_for_each_context_exclude_each_other(three: ValkeyCluster) -> None:
    with pytest.raises(ValueError, match="--isolation prefix"):
        Settings(redis_url=three.url)


async def test_a_node_of_a_cluster_is_not_taken_for_a_server_of_its_own(three: ValkeyCluster) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with serving(redis_url=three.primaries[0].url, **PREFIX):
            pass
    (fault,) = caught.value.exceptions
    assert isinstance(fault, StoreMisconfigured)
    assert "redis+cluster://" in str(fault)


async def test_a_server_of_its_own_is_not_taken_for_a_cluster(store: ValkeyProcess) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with serving(redis_url=store.url.replace("redis:", "redis+cluster:"), **PREFIX):
            pass
    (fault,) = caught.value.exceptions
    assert isinstance(fault, StoreMisconfigured)
    assert "cluster" in str(fault)


async def test_readiness_is_that_of_the_cluster(three: ValkeyCluster) -> None:
    async with (
        serving_store(three.url, **PREFIX) as (app, _),
        httpx.AsyncClient(base_url=http_url(app), verify=False) as http,
    ):
        assert (await http.get("/readyz")).status_code == 200


def test_doctor_looks_at_each_node(three: ValkeyCluster) -> None:
    def findings() -> list[dict[str, str]]:
        done = CliRunner().invoke(doctor, ["--json", "--redis-url", three.url, "--isolation", "prefix"])
        assert done.exit_code == 1, done.output  # these keep nothing
        found: list[dict[str, str]] = json.loads(done.stdout)["findings"]
        return found

    before = findings()
    assert [finding["found"][:17] for finding in before if finding["check"] == "cluster"] == ["all 3 nodes answe"]
    assert sum(finding["check"] == "persistence" for finding in before) == 3
    assert not [finding for finding in before if finding["check"] == "eviction" and finding["state"] != "ok"]

    other = next(node for node in three.nodes if node is not three.owner(None))
    ask(other, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        (eviction,) = [item for item in findings() if item["check"] == "eviction" and item["state"] != "ok"]
        assert str(other.port) in eviction["found"]
    finally:
        ask(other, "CONFIG", "SET", "maxmemory-policy", "noeviction")
