"""A context is deleted with all that is in it, slice by slice, and meanwhile nothing is done in it."""

from __future__ import annotations

import re

import pytest

from coordinator.errors import NotFound, StorageError
from coordinator.storage.functions import control, once
from coordinator.storage.functions.control import Deletion
from coordinator.storage.keys import Isolation, Layout
from tests.execution.conftest import SHARED_DATABASE, NewContext
from tests.execution.driver import Context, job

SLICE = 250  # keys that one call deletes at most


def left(context: Context) -> set[str]:
    (keys,) = context.wire.ask(("KEYS", f"{re.sub(r'([{}])', r'?', context.keys.prefix)}*"))
    return {key.decode().removeprefix(context.keys.prefix) for key in keys}


def delete(context: Context, passed: int, number: str = "", slices: int = 1_000) -> Deletion | None:
    found: Deletion | None = None
    for _ in range(slices):
        (reply,) = context.wire.ask(control.context_delete(context.keys, context.id, number, passed))
        found, effects = control.read_context_delete(reply)
        context.wire.effects = [effect.decode() for effect in effects]
        if found is None or not found.has_more:
            break
        number = found.number
    return found


def filled(context: Context) -> None:
    """Something of everything."""
    context.create_context(7)
    context.create_runner(3)
    context.submit(1, [job(1), job(2, [1]), job(3, prerequisites=["paid"])])
    context.log(context.take_one(), "x")
    context.submit(2, [job(4, retries=1)])
    context.fail(context.take_one())
    context.create_message(1, [job(5)], timeout=100)
    context.send(1)
    context.satisfy("signed")
    context.satisfy("signed", 1)
    context.pause("Sal")
    context.drain(3)
    context.create_flow(3, [1])


def test_nothing_is_left_and_the_context_can_be_created_anew(context: Context) -> None:
    filled(context)
    first = delete(context, 1)
    assert first is not None

    last = delete(context, 2, first.number)

    assert last is not None
    assert last.records == 11  # the context, a runner, three flows, five jobs and a message
    assert left(context) == set()
    with pytest.raises(NotFound):
        context.load_flow(1)
    context.create_context(8)
    context.submit(1, [job(1), job(2, script_type="Sal")])
    assert len(context.run_all()) == 2


def test_others_keep_all_they_have(new_context: NewContext) -> None:
    gone, stays = new_context(1), new_context(11)
    filled(gone)
    filled(stays)
    before = left(stays)

    first = delete(gone, 1)
    assert first is not None
    delete(gone, 2, first.number)

    assert left(stays) == before
    assert stays.load_flow(1)["status"] == "Started"


def test_meanwhile_nothing_is_done_in_it(context: Context) -> None:
    filled(context)
    delete(context, 1, slices=1)

    for call in (
        lambda: context.create_job(9),
        lambda: context.take(1),
        context.tick,
        lambda: context.events(1),
        lambda: context.unpause("Sal"),
    ):
        with pytest.raises(StorageError, match="DELETING"):
            call()


def test_whoever_waits_there_is_woken_once(context: Context) -> None:
    filled(context)

    delete(context, 1, slices=1)
    assert context.wire.effects == ["deleted:"]


def test_whoever_comes_goes_on_and_none_deletes_what_is_created_after(context: Context) -> None:
    context.create_jobs(job(id) for id in range(1, 2 * SLICE))
    mine = delete(context, 1, slices=1)
    assert mine is not None
    assert mine.has_more
    assert 0 < mine.records <= SLICE

    theirs = delete(context, 1)  # somebody else, who does not know of ours
    assert theirs is not None
    assert theirs.number == mine.number
    assert delete(context, 2, theirs.number) is not None
    context.create_job(1)

    for passed in (1, 2):
        found = delete(context, passed, mine.number)
        assert found == Deletion(mine.number, 0, False)
    assert context.load_job(1)["id"] == 1


def test_who_only_goes_on_begins_nothing(context: Context) -> None:
    context.create_job(1)
    assert delete(context, 1, control.GOES_ON) is None
    assert context.load_job(1)["id"] == 1

    delete(context, 1, slices=1)
    found = delete(context, 1, control.GOES_ON)
    assert found is not None
    assert delete(context, 2, found.number) is not None
    assert left(context) == set()


def test_each_call_deletes_a_few(context: Context) -> None:
    context.create_jobs(job(id) for id in range(1, 3 * SLICE))
    before = len(left(context))
    number, gone = "", 0
    while True:
        found = delete(context, 1, number, slices=1)
        assert found is not None
        now = before - len(left(context))
        assert now - gone <= SLICE
        gone, number = now, found.number
        if not found.has_more:
            break


def test_a_connection_that_has_made_it_known_has_to_do_that_again(context: Context) -> None:
    """For the set of known contexts does not have it any more."""
    context.create_job(1)
    writer = once.fence(context.keys, "w", 1, None)
    context.wire.ask(writer)
    first = delete(context, 1)
    assert first is not None
    assert left(context) >= {"writer:w", "writer:w:1"}
    context.wire.ask(writer)  # it may be renewed
    delete(context, 2, first.number)

    assert left(context) == set()
    stamped = control.job_cancel(context.keys, "job:7:1", "x").stamped(
        control.job_cancel(context.keys, "job:7:1", "x"), "w:1 1 1"
    )
    with pytest.raises(StorageError, match="FENCED"):
        context.wire.ask(stamped)


def test_what_is_not_there_is_deleted_already(context: Context) -> None:
    assert delete(context, 1) is None


@pytest.mark.parametrize("isolation", ["prefix"], indirect=True)
def test_a_context_whose_name_begins_with_its_name_stays(new_context: NewContext, isolation: Isolation) -> None:
    gone, stays = new_context(1), new_context(12)
    assert Layout(isolation, SHARED_DATABASE).keyspace(1).prefix == "{1}:"
    gone.create_job(1)
    stays.create_job(1)

    delete(gone, 1)

    assert stays.load_job(1)["id"] == 1
