"""What coordinators learn of a transition: the one that asked by its effects, the others by the context's channel."""

from __future__ import annotations

import pytest

from coordinator.errors import StorageError
from coordinator.storage.library import VERSION
from tests.execution.conftest import NewContext
from tests.execution.driver import Context, job


def news(listening: Context) -> list[str]:
    """What another coordinator's next transition tells, without who tells it."""
    _, _, content = listening.wire.heard()
    return list(content.decode().split("\n")[1:])


def listen(context: Context) -> Context:
    context.wire.ask(("SUBSCRIBE", context.keys.channel))
    return context


def test_the_first_job_of_a_queue_is_news_to_everybody_and_the_next_to_us(new_context: NewContext) -> None:
    context, other = new_context(), listen(new_context())

    context.submit(1, [job(1)])
    assert "ready:Python" in context.wire.effects
    assert news(other) == ["ready:Python"]

    context.submit(2, [job(2)])
    assert "ready:Python" in context.wire.effects
    context.cancel(2)
    context.submit(3, [job(3, script_type="V")])
    assert news(other) == ["ready:V"]


def test_the_reason_of_a_cancel_is_one_line_of_news(new_context: NewContext) -> None:
    context, other = new_context(), listen(new_context())
    context.submit(1, [job(1)])
    attempt = context.take_one()
    assert news(other) == ["ready:Python"]

    context.cancel(1, "two\nlines")

    assert news(other) == [f'cancel:3 job:7:1 {attempt.token} "cancelled: two\\nlines"']
    assert context.load_flow(1)["result"] == {"error": "cancelled: two\nlines"}


def test_a_timer_that_was_set_is_told_with_the_time_it_is_due_in(context: Context) -> None:
    context.submit(1, [job(1)])

    context.take_one()

    (due,) = (effect for effect in context.wire.effects if effect.startswith("due:"))
    assert due == "due:30000"


def test_a_tick_tells_when_the_next_timer_is_due_and_which_queues_have_jobs(context: Context) -> None:
    context.submit(1, [job(1), job(2, script_type="Sal")])
    context.take_one()

    context.later(10)

    effects = set(context.wire.effects)
    assert "ready:Sal" in effects
    (due,) = (int(effect[4:]) for effect in effects if effect.startswith("due:"))
    assert 0 < due <= 20_000


def test_a_coordinator_that_knows_another_version_is_refused_and_changes_nothing(context: Context) -> None:
    call = context.keys.transition("hc_record_upsert", "flow:1", "", "|id", "1")
    older = tuple(
        f"older 3600000 0 {VERSION}:000000000000" if item == context.keys.coordinator else item for item in call
    )

    with pytest.raises(StorageError) as caught:
        context.wire.ask(older)

    assert f"version {VERSION}" in caught.value.data["detail"]
    assert context.wire.ask(("EXISTS", f"{context.keys.prefix}flow:1")) == [0]
