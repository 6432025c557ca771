"""What prerequisites are satisfied with is stored once and told up to a limit, however many jobs wait for however many
of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from tests.support.api import Api
from tests.support.flows import database, submit, wide
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.waiting import until
from tests.support.workers import register

LARGE: Final = {"text": "x" * 60_000}
MIB: Final = 1024 * 1024


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def server(data: Path) -> Iterator[CoordinatorProcess]:
    with coordinator("--data-dir", str(data)) as running:
        yield running


@pytest.fixture
def store(server: CoordinatorProcess, data: Path, context: int) -> redis.Redis:
    return database(data, context)


async def take(api: Api, context: int, count: int = 1) -> list[dict[str, Any]]:
    """What runner 3 gets, some calls long, for one brings a bounded number of bytes."""
    jobs: list[dict[str, Any]] = []
    while len(jobs) < count:
        params = {"context_id": context, "runner_id": 3, "script_types": ["Python"], "count": count - len(jobs)}
        jobs += (await api.call("job.take", wait=20, **params))["jobs"]
    return jobs


async def told(api: Api, context: int) -> dict[str, Any]:
    """Take a job, and return its prerequisites."""
    (assignment,) = await take(api, context)
    prerequisites: dict[str, Any] = assignment["prerequisites"]
    return prerequisites


async def satisfy(api: Api, context: int, name: str, **more: Any) -> dict[str, Any]:
    satisfied: dict[str, Any] = await api.call("prerequisite.satisfy", context_id=context, name=name, **more)
    return satisfied


async def test_a_payload_is_stored_once_for_all_jobs_and_told_up_to_a_limit(
    api: Api, context: int, store: redis.Redis
) -> None:
    await register(api, context)
    names = [f"part {number}" for number in range(30)]
    for name in names:
        await satisfy(api, context, name, payload=LARGE, by="Ada")
    before = int(store.info("memory")["used_memory_dataset"])

    await submit(api, context, wide(20), prerequisites=names)

    assert int(store.info("memory")["used_memory_dataset"]) - before < MIB
    for assignment in await take(api, context, 20):
        met = assignment["prerequisites"]
        assert list(met) == names
        known = [name for name in names if "payload" in met[name]]
        assert known == names[: len(known)]
        assert MIB / 2 < sum(len(met[name]["payload"]["text"]) for name in known) < MIB + len(LARGE["text"])
        for name in names[len(known) :]:
            assert met[name] == {**met[name], "scope": "context", "omitted": True}
            assert met[name].keys() == {"satisfied_at", "scope", "omitted"}


async def test_a_list_of_large_payloads_goes_in_pages(api: Api, context: int) -> None:
    for number in range(30):
        await satisfy(api, context, f"part {number:02}", payload=LARGE)
    names, cursor, pages = [], "", 0
    while pages == 0 or cursor:
        page = await api.call("prerequisite.list", context_id=context, limit=1000, cursor=cursor)
        assert sum(len(known["payload"]["text"]) for known in page["satisfied"]) < 2 * MIB
        names += [known["name"] for known in page["satisfied"]]
        cursor, pages = page.get("cursor", ""), pages + 1
    assert names == [f"part {number:02}" for number in range(30)]
    assert pages == 2


async def test_a_job_is_told_what_it_was_released_with(api: Api, context: int, store: redis.Redis) -> None:
    await register(api, context)
    for flow in range(1, 4):
        await submit(api, context, {flow: []}, flow=flow, prerequisites=["go"])
    first = await satisfy(api, context, "go", flow_id=1, payload={"n": "1"}, by="Ada")
    for number in range(2, 4):  # within a millisecond, or nearly so
        await api.call("prerequisite.revoke", context_id=context, name="go", flow_id=1)
        await satisfy(api, context, "go", flow_id=1, payload={"n": str(number)})
    await satisfy(api, context, "go")

    assert await told(api, context) == {
        "go": {"satisfied_at": first["satisfied_at"], "scope": "flow", "by": "Ada", "payload": {"n": "1"}}
    }
    assert (await told(api, context))["go"].keys() == {"satisfied_at", "scope"}
    revoked = [key for key in store.scan_iter("satisfied:flow:1 *") if store.ttl(key) > 0]
    assert len(revoked) == 2


async def test_a_payload_that_was_given_up_is_told_as_omitted(api: Api, context: int, store: redis.Redis) -> None:
    await register(api, context)
    await submit(api, context, {1: []}, prerequisites=["go"])
    await satisfy(api, context, "go", payload={"n": "1"})
    await api.call("prerequisite.revoke", context_id=context, name="go")
    store.delete(*store.keys("satisfied:*"))  # as after a week

    met = (await told(api, context))["go"]
    assert met == {"satisfied_at": met["satisfied_at"], "scope": "context", "omitted": True}


async def test_a_prerequisite_for_many_jobs_that_wait_for_many_more_is_little_work(
    api: Api, context: int, store: redis.Redis
) -> None:
    """Each of them is looked at once; what it waits for besides is not gone through name by name."""
    await register(api, context)
    jobs, names = 60, [f"part {number}" for number in range(100)]
    await submit(api, context, wide(jobs), prerequisites=names)
    store.config_resetstat()

    for name in names[:-1]:
        await satisfy(api, context, name)
    await until(lambda: not store.zcount("timers", "-inf", time.time() * 1000))

    stats: dict[str, dict[str, int]] = store.info("commandstats")
    assert sum(of["calls"] for of in stats.values()) < 12 * jobs * len(names)
    assert store.llen("queue:python") == 0
    await satisfy(api, context, names[-1])
    assert len(await take(api, context, jobs)) == jobs


async def test_payloads_for_a_flow_end_with_it(api: Api, context: int, store: redis.Redis) -> None:
    await submit(api, context, {1: []}, prerequisites=["go", "never"])
    await satisfy(api, context, "go", flow_id=1, payload=LARGE)
    assert len(store.keys("satisfied:*")) == 1
    await api.call("flow.cancel", context_id=context, id=1)

    await api.call("flow.delete", context_id=context, id=1)

    assert store.keys("satisfied:*") == []


async def test_what_earlier_versions_have_stored_is_read(api: Api, context: int, store: redis.Redis) -> None:
    """They kept by and payload behind the time, and a copy of them in each job."""
    await register(api, context)
    said = {"satisfied_at": 1_700_000_000_000, "scope": "context", "by": "Ada", "payload": {"n": "1"}}
    await submit(api, context, {1: []}, prerequisites=["go"])
    await satisfy(api, context, "go", payload={"n": "1"})
    store.delete(*store.keys("satisfied:*"))
    store.hset("prerequisites", "go", '1700000000000,"by":"Ada","payload":{"n":"1"}')
    store.hset(
        "job:7:1",
        "x_met",
        '{"go":{"satisfied_at":1700000000000,"scope":"context","by":"Ada","payload":{"n":"1"}}}',
    )

    assert await told(api, context) == {"go": said}
    listed = await api.call("prerequisite.list", context_id=context)
    assert listed["satisfied"] == [{"name": "go", **said}]
    await submit(api, context, {2: []}, flow=2, prerequisites=["go"])
    assert await told(api, context) == {"go": said}
    assert await satisfy(api, context, "go", payload={"n": "1"}) == {"name": "go", "released": 0, **said}
    await api.call("prerequisite.revoke", context_id=context, name="go")
    assert (await api.call("prerequisite.list", context_id=context))["satisfied"] == []
