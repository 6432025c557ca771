"""How much there is in a context: counted as it changes. The model of flows compares it after each of its steps."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from coordinator.errors import StorageError
from coordinator.storage.library import SCHEMA, SOURCE
from tests.execution import sliced
from tests.execution.driver import CALLER, Context, Runner, job

ALL = Runner(4, "s", script_types=("Osis", "Sal", "V", "Python"))


def compare(context: Context) -> None:
    """What is counted is what lists have."""
    stats = context.stats()
    jobs, flows = (pages(limit=1000)["items"] for pages in (context.list_jobs, context.list_flows))
    for told, there in ((stats["jobs"], jobs), (stats["flows"], flows)):
        counted = Counter(record["status"] for record in there)
        assert told == {status: counted[status] for status in told}
    types = Counter(record["script_type"] for record in jobs)
    assert {name: of["jobs"] for name, of in stats["script_types"].items()} == {
        name: types[name] for name in stats["script_types"]
    }


def live(context: Context) -> None:
    """Flows and jobs come, change, go and fail in every way there is, and are counted after each."""

    def then(*steps: Any) -> None:
        for step in steps:
            step()
            compare(context)

    one = [job(1, script_type="Sal"), job(2, [1], retries=1), job(3, prerequisites=["paid"])]
    then(
        lambda: context.submit(1, one),
        lambda: context.submit(1, one),
        lambda: context.finish(context.take_one(ALL)),
        lambda: context.fail(context.take_one(ALL)),
        lambda: context.later(100),
        lambda: context.take(1, ALL, holder="h", number=1),
        lambda: context.untake("h", 1),
        lambda: context.satisfy("paid", 1),
        lambda: context.take(1, ALL),
        lambda: context.cancel(1),
        lambda: context.retry(1),
        context.run_all,
        lambda: context.create_job(3),
        lambda: context.create_job(3, script="other", script_type="V"),
        lambda: context.create_job(3, script_type="Osis"),
        lambda: context.create_flow(2, [3, 2]),
        lambda: context.create_flow(2, [3, 2, 1]),
        lambda: context.start(2),
        lambda: context.take(1, Runner(5, lease=0.5, script_types=ALL.script_types)),
        lambda: context.later(1000),
        lambda: context.cancel(2),
        lambda: context.delete_flow(2),
        lambda: context.submit(3, [job(id, [id - 1] if id > 20 else []) for id in range(20, 30)]),
        lambda: context.take(1, ALL),
        lambda: context.cancel(3),
        lambda: context.retry(3),
        lambda: context.fail(context.take_one(ALL), retry=False),
        lambda: context.retry(3),
        context.run_all,
        lambda: context.create_message(1, [job(20, script_type="V"), job(41), job(42, [41])]),
        lambda: context.delete_flow(3),
        lambda: context.send(1),
        context.run_all,
        lambda: context.delete_message(1),
        lambda: context.create_job(50, script_type="V"),
        lambda: context.draft_flow(6, [50], abandon_after=60),
        lambda: context.later(100),
        context.settle,
        lambda: context.delete_flow(1),
        lambda: context.delete_job(3),
    )


@pytest.mark.parametrize("source", [SOURCE, sliced.SOURCE], ids=["whole", "in slices"])
def test_whatever_happens_is_counted(context: Context, source: str) -> None:
    context.wire.ask(("FUNCTION", "LOAD", "REPLACE", source))
    if source == SOURCE:
        live(context)
    else:
        with sliced.small_slices():
            live(context)


def test_what_waits_and_who_is_there_is_told(context: Context) -> None:
    context.submit(1, [job(1), job(2), job(3, script_type="Sal")])
    context.wire.ask(("HINCRBY", context.keys.job(CALLER, 1), "x_queued", -5000))
    context.there(["Python", "Sal"], [3, 4])
    stats = context.stats()
    python, sal = (stats["script_types"][name] for name in ("Python", "Sal"))
    assert (python["jobs"], python["queued"], sal["queued"]) == (2, 2, 1)
    assert 5 <= python["oldest"] < 60
    assert stats["runners"] == {"connected": 2, "busy": 0}

    attempts = [context.take_one(Runner(3, session)) for session in ("", "job.take")] + context.take(1, ALL)
    assert context.stats()["runners"] == {"connected": 2, "busy": 2}
    context.wire.ask(("FUNCTION", "LOAD", "REPLACE", SOURCE))  # as after a restart: only what is stored is known
    assert context.stats()["runners"] == {"connected": 0, "busy": 2}
    for attempt in attempts:
        context.finish(attempt)
    assert context.stats()["runners"]["busy"] == 0
    assert context.stats()["script_types"]["Python"] == {"jobs": 2, "queued": 0, "oldest": 0}


def tick_often(context: Context) -> None:
    """Until what is done some at a time is done."""
    for _ in range(10):
        context.tick()


@pytest.mark.parametrize("jobs", [1, 120, 400])
def test_what_does_not_run_any_more_is_not_told_as_queued_though_no_runner_comes(context: Context, jobs: int) -> None:
    """Up to the first job that does wait; what is behind it is found by whoever takes that."""
    context.submit(1, [job(id) for id in range(1, jobs + 1)])
    tick_often(context)
    context.submit(2, [job(1001)])
    context.submit(3, [job(id) for id in range(2001, 2001 + jobs)])
    tick_often(context)
    assert context.stats()["script_types"]["Python"]["queued"] == 2 * jobs + 1

    context.cancel(1)
    context.later(2)
    tick_often(context)
    assert context.stats()["script_types"]["Python"]["queued"] == jobs + 1

    context.cancel_job(1001)
    context.delete_flow(2)
    context.cancel(3)
    context.delete_flow(3)
    context.later(2)
    tick_often(context)
    assert context.stats()["script_types"]["Python"] == {"jobs": jobs, "queued": 0, "oldest": 0}
    assert context.wire.ask(("EXISTS", f"{context.keys.prefix}queue:python")) == [0]


def test_what_was_queued_again_stays_queued(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    context.cancel(1)
    context.retry(1)
    context.pause()
    context.later(2)

    context.unpause()
    assert sorted(attempt.id for attempt in context.run_all()) == [1, 2]


def test_what_a_faulty_call_has_changed_is_counted(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    first, _ = context.take(2)
    flow = f"{context.keys.prefix}flow:1"
    context.wire.ask(("HSET", flow, "x_pending", "some"))
    with pytest.raises(StorageError):
        context.finish(first)
    context.wire.ask(("HSET", flow, "x_pending", 1))

    compare(context)
    assert context.stats()["jobs"]["Finished"] == 1


@pytest.mark.parametrize("place", [None, "job", "flow 0000000001"])
def test_records_from_before_they_were_counted_are_counted_once(context: Context, place: str | None) -> None:
    """In slices, of which each begins where the last one has ended. `place`: how far an older version was with a
    migration of its own."""
    for id in range(1, 4):
        context.submit(id, [job(100 * id + at, script_type="Sal" if at % 3 else "V") for at in range(90)])
    for attempt in context.take(50, ALL)[:30]:
        context.finish(attempt)
    before = context.stats()
    engine, counts = context.keys.engine, f"{context.keys.prefix}counts"
    context.wire.ask(("DEL", counts), ("HSET", engine, "schema", "7"))
    if place is not None:
        context.wire.ask(("HSET", engine, "migrated", place), ("HINCRBY", counts, "V>Started", 5))

    calls, done = 0, 0
    while not done:
        (done,) = context.wire.ask(context.keys.call("hc_migrate", engine))
        calls += 1
    assert calls > 4
    assert context.wire.ask(context.keys.call("hc_migrate", engine)) == [1]
    after = context.stats()
    assert (after["flows"], after["jobs"]) == (before["flows"], before["jobs"])
    assert context.wire.ask(("HMGET", engine, "schema", "migrated", "migrating")) == [
        [str(SCHEMA).encode(), None, None]
    ]
    compare(context)
    context.run_all()
    compare(context)
