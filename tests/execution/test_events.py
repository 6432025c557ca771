"""The events of a flow: complete, in order, kept for a while."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.errors import InvalidParams, NotFound
from coordinator.storage.functions import attempts, joined
from tests.execution.conftest import NewContext
from tests.execution.driver import CALLER, Context, Runner, job


def told(context: Context, id: int = 1) -> list[dict[str, Any]]:
    """A flow's events, without when they happened."""
    return [
        {name: value for name, value in event.items() if name not in ("event_id", "at")} for event in context.events(id)
    ]


def order_of(event_id: str) -> tuple[int, int]:
    ms, _, number = event_id.partition("-")
    return int(ms), int(number)


def test_everything_that_happens_to_a_flow_is_an_event(context: Context) -> None:
    context.submit(1, [job(1, retries=1), job(2, [1])])
    context.fail(context.take_one(), "broken")
    context.later(60)
    attempt = context.take_one(Runner(runner_id=4))
    context.log(attempt, "one", "two", stream="stderr")
    context.finish(attempt)
    context.run_all(Runner(runner_id=5))

    by_3 = {"attempt": 1, "runner_id": 3}
    by_4 = {"attempt": 2, "runner_id": 4}
    by_5 = {"attempt": 1, "runner_id": 5}
    assert told(context) == [
        {"kind": "flow", "status": "Started"},
        {"kind": "job", "status": "Started", "job_id": 1, **by_3, "topic": "runner3"},
        {"kind": "job", "status": "Dispatched", "job_id": 1, **by_3, "reason": "broken"},
        {"kind": "job", "status": "Started", "job_id": 1, **by_4, "topic": "runner4"},
        {"kind": "log", "job_id": 1, "attempt": 2, "stream": "stderr", "lines": ["one", "two"]},
        {"kind": "job", "status": "Finished", "job_id": 1, **by_4},
        {"kind": "job", "status": "Dispatched", "job_id": 2},
        {"kind": "job", "status": "Started", "job_id": 2, **by_5, "topic": "runner5"},
        {"kind": "job", "status": "Finished", "job_id": 2, **by_5},
        {"kind": "flow", "status": "Finished"},
    ]


def test_the_events_of_an_ended_flow_are_kept_for_a_while_however_long_its_reason_is(context: Context) -> None:
    context.submit(1, [job(1)])
    context.take_one()
    assert keep_time(context, 1) == -1

    context.cancel(1, "\x01" * 1000)  # six bytes each as JSON

    assert keep_time(context, 1) > 0


def test_a_timer_that_is_set_and_dropped_in_turns_is_as_it_was_left(context: Context) -> None:
    context.submit(1, [job(1, retries=1), job(2, retries=1), job(3)])
    first, second, third = context.take(3)
    names = [f"job:{CALLER}:{attempt.id}" for attempt in (first, second, third)]
    keys = context.keys
    calls = [
        attempts.finish(keys, names[0], first.token, b"{}"),
        attempts.heartbeat(keys, names[1], second.token),
        attempts.fail(keys, names[1], second.token, "broken", None, may_retry=True),
        attempts.heartbeat(keys, names[2], third.token),
    ]

    context.wire.ask(joined.many(calls))

    (timers,) = context.wire.ask(("ZRANGE", f"{keys.prefix}timers", 0, -1))
    assert {timer.decode() for timer in timers} == {f"retry:{names[1]}", f"lease:{names[2]}"}


def test_the_end_of_a_flow_in_error_has_its_reason(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    context.take_one()
    context.cancel(1, "enough")

    assert told(context)[-2:] == [
        {
            "kind": "job",
            "status": "Error",
            "job_id": 1,
            "attempt": 1,
            "runner_id": 3,
            "reason": "cancelled: enough",
        },
        {"kind": "flow", "status": "Error", "reason": "cancelled: enough"},
    ]


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_paging_misses_and_repeats_nothing(context: Context, limit: int) -> None:
    context.submit(1, [job(id) for id in range(1, 8)])
    context.run_all()

    events = context.events(1, limit=limit)

    assert events == context.events(1)
    ids = [order_of(event["event_id"]) for event in events]
    assert ids == sorted(set(ids))
    assert len(events) == 16


def test_the_last_page_says_where_to_go_on(context: Context) -> None:
    context.submit(1, [job(1)])
    page = context.events_page(1)

    assert context.events_page(1, after=page["last_event"]) == {
        "events": [],
        "last_event": page["last_event"],
        "missed": False,
    }
    context.take_one()
    assert [event["kind"] for event in context.events_page(1, after=page["last_event"])["events"]] == ["job"]


@pytest.mark.slow
def test_when_the_oldest_events_are_no_longer_kept_a_page_says_so(context: Context) -> None:
    context.submit(1, [job(1)])
    attempt = context.take_one()
    early = context.events(1)[-1]["event_id"]
    for number in range(10_300):
        context.log(attempt, str(number))

    assert context.events_page(1)["missed"]
    assert context.events_page(1, after=early)["missed"]
    last = context.status(1)["last_event"]
    assert not context.events_page(1, after=last)["missed"]
    assert len(context.events(1)) >= 10_000


def test_a_page_of_a_flow_whose_events_are_all_kept_misses_nothing(context: Context) -> None:
    context.create_flow(1, [])
    assert not context.events_page(1)["missed"]

    context.start(1)

    assert not context.events_page(1)["missed"]


def keep_time(context: Context, id: int) -> int:
    """Milliseconds the events of a flow are kept for; -1: for ever, -2: there are none."""
    (left,) = context.wire.ask(("PTTL", context.keys.events(id)))
    return int(left)


def test_the_events_of_a_flow_are_kept_for_ever_while_it_runs_and_for_a_time_after_it_ended(
    new_context: NewContext,
) -> None:
    context = new_context(event_retention=100)
    context.submit(1, [job(1)])
    assert keep_time(context, 1) == -1

    context.fail(context.take_one())
    assert 0 < keep_time(context, 1) <= 100_000

    context.retry(1)
    assert keep_time(context, 1) == -1


def forget_events(context: Context, id: int) -> None:
    """The time they are kept for is over."""
    context.wire.ask(("DEL", context.keys.events(id)))


def test_once_events_are_no_longer_kept_a_page_says_so(context: Context) -> None:
    context.submit(1, [job(1)])
    context.run_all()
    forget_events(context, 1)

    assert context.events_page(1) == {"events": [], "last_event": "0-0", "missed": True}


def test_what_still_runs_when_the_events_are_no_longer_kept_leaves_none_behind(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    failing, running = context.take(2)
    context.fail(failing)
    forget_events(context, 1)

    context.log(running, "late")
    context.finish(running)

    assert keep_time(context, 1) == -2


def test_a_flow_retried_after_its_events_were_forgotten_says_that_some_are_missed(context: Context) -> None:
    context.submit(1, [job(1)])
    early = "1-0"
    context.fail(context.take_one())
    forget_events(context, 1)

    context.retry(1)

    page = context.events_page(1, after=early)
    assert page["missed"]
    assert [event["status"] for event in page["events"]] == ["Started"]
    assert not context.events_page(1, after=page["last_event"])["missed"]


def follow(context: Context, id: int) -> None:
    """A client somewhere follows the flow."""
    context.wire.transition(context.keys.transition("hc_flow_follow", f"flow:{id}", 30_000, "0-0"))


def test_events_of_a_flow_are_announced_while_it_is_followed(context: Context) -> None:
    context.submit(1, [job(1)])
    attempt = context.take_one()
    assert "events:1" not in context.wire.effects

    follow(context, 1)
    context.log(attempt, "x")

    assert "events:1" in context.wire.effects


def test_reading_a_page_does_not_end_the_following(context: Context) -> None:
    context.submit(1, [job(1)])
    follow(context, 1)

    context.events_page(1)

    (left,) = context.wire.ask(("PTTL", f"{context.keys.prefix}followed:1"))
    assert left > 1000


def test_reading_a_page_does_not_begin_a_following(context: Context) -> None:
    context.submit(1, [job(1)])

    context.events_page(1)

    assert context.wire.ask(("EXISTS", f"{context.keys.prefix}followed:1")) == [0]


def test_to_follow_what_is_not_stored_is_not_found(context: Context) -> None:
    with pytest.raises(NotFound):
        context.events_page(1)


def test_of_a_flow_that_logs_without_end_the_last_lines_are_kept_and_every_change_of_status(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    attempt, other = context.take(2)
    line = "x" * 4_000_000
    context.log(attempt, line + "0")
    first = context.events(1)[-1]["event_id"]
    context.finish(other)

    for number in range(1, 6):
        assert context.log(attempt, line + str(number))["lines"] == 1

    context.finish(attempt)
    kept = context.events(1)
    assert [event["lines"][0][-1] for event in kept if event["kind"] == "log"] == ["2", "3", "4", "5"]
    assert [event["status"] for event in kept if event["kind"] != "log"] == [
        *("Started", "Started", "Started", "Finished", "Finished", "Finished")
    ]
    assert context.events_page(1)["missed"]
    assert context.events_page(1, after=first)["missed"]
    assert not context.events_page(1, after=kept[4]["event_id"])["missed"]
    assert context.load_flow(1)["status"] == "Finished"


def test_each_job_keeps_the_end_of_its_log_whatever_others_write(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    quiet, talkative = sorted(context.take(2), key=lambda attempt: attempt.id)
    context.log(quiet, "it", "é broke", stream="stderr")
    for _ in range(5):
        context.log(talkative, "x" * 4_000_000)

    context.fail(quiet)

    (report,) = context.tail(1)
    assert {name: report[name] for name in ("attempt", "stream", "lines")} == {
        "attempt": 1,
        "stream": "stderr",
        "lines": ["it", "é broke"],
    }
    assert not any(event.get("lines") == report["lines"] for event in context.events(1))
    assert sum(len(line) for report in context.tail(2) for line in report["lines"]) <= 40_000


def test_the_end_of_a_log_is_its_newest_lines(context: Context) -> None:
    context.submit(1, [job(1)])
    attempt = context.take_one()
    for number in range(200):
        context.log(attempt, *(f"{number} {part} " + "é" * 100 for part in range(10)))

    lines = [line for report in context.tail(1) for line in report["lines"]]

    assert lines[-1].startswith("199 9 ")
    assert 10_000 < sum(len(line.encode()) for line in lines) < 50_000
    numbers = [tuple(map(int, line.split()[:2])) for line in lines]
    assert numbers == sorted(numbers)
    assert set(numbers) == {(number, part) for number in range(numbers[0][0], 200) for part in range(10)}


def test_of_a_line_without_end_the_end_is_kept(context: Context) -> None:
    context.submit(1, [job(1)])
    context.log(context.take_one(), "a" + "é" * 100_000 + "z")

    ((line,),) = [report["lines"] for report in context.tail(1)]

    assert line[-2:] == "éz"
    assert set(line[:-1]) == {"é"}


def test_a_jobs_log_goes_with_it(context: Context) -> None:
    context.submit(1, [job(1)])
    attempt = context.take_one()
    context.log(attempt, "x")
    context.finish(attempt)
    context.delete_flow(1)

    assert context.wire.ask(("KEYS", f"{context.keys.prefix}*:1")) == [[]]
    with pytest.raises(NotFound):
        context.tail(1)


@pytest.mark.parametrize("after", ["9999999999999-0", "18446744073709551616-0", "99999999999999999999-5", "LAST-1"])
def test_an_event_there_is_not_yet_is_an_error(context: Context, after: str) -> None:
    context.submit(1, [job(1)])
    last = context.status(1)["last_event"]
    beyond = after.replace("LAST", last.partition("-")[0]) if last.endswith("-0") else f"{last}9"

    with pytest.raises(InvalidParams) as caught:
        context.events_page(1, after=beyond if after.startswith("LAST") else after)

    assert caught.value.data[0]["loc"] == ["after"]
    assert context.events_page(1, after=last)["events"] == []


def test_of_a_flow_that_was_not_started_there_is_no_event(context: Context) -> None:
    context.create_flow(1, [])

    with pytest.raises(InvalidParams):
        context.events_page(1, after="1-0")
    assert context.events_page(1, after="0-0")["events"] == []


def test_followers_are_told_of_a_deleted_flow(context: Context) -> None:
    context.submit(1, [job(1)])
    context.run_all()
    follow(context, 1)

    context.delete_flow(1)

    assert "events:1" in context.wire.effects


# -- entries of several events


def entries(context: Context, id: int = 1) -> list[tuple[str, list[bytes]]]:
    (found,) = context.wire.ask(("XRANGE", context.keys.events(id), "-", "+"))
    return [(entry.decode(), text.split(b"\n")) for entry, (_, text) in found]


def check_cursors(context: Context) -> list[str]:
    """Whoever has read as far as an event is told of all behind it, once. Returns the events' ids."""
    events = context.events(1)
    ids = [event["event_id"] for event in events]
    assert [order_of(id) for id in ids] == sorted({order_of(id) for id in ids})
    for place, id in enumerate(ids):
        page = context.events_page(1, after=id)
        assert page["events"] == events[place + 1 :]
        assert not page["missed"]
        assert context.events(1, limit=2) == events
    return ids


def test_what_happens_in_one_call_is_one_entry_and_each_event_has_an_id_of_its_own(context: Context) -> None:
    context.submit(1, [job(id) for id in (1, 2, 3)])
    taken = context.take(3)
    for attempt in taken:
        context.finish(attempt)

    assert [len(events) for _, events in entries(context)] == [1, 3, 1, 1, 2]
    ids = check_cursors(context)
    assert context.status(1)["last_event"] == ids[-1]
    assert [entry for entry, _ in entries(context)] == [ids[0], ids[3], ids[4], ids[5], ids[7]]


def test_events_of_earlier_versions_had_an_entry_each_and_have_the_same_ids(context: Context) -> None:
    context.submit(1, [job(id) for id in (1, 2, 3)])
    context.take(3)
    events = context.events(1)
    texts = [text for _, some in entries(context) for text in some]
    name = context.keys.events(1)
    context.wire.ask(("DEL", name))
    for event, text in zip(events, texts, strict=True):
        context.wire.ask(("XADD", name, event["event_id"], "e", text))

    assert context.events(1) == events
    context.cancel(1)
    assert check_cursors(context)[:4] == [event["event_id"] for event in events]


@pytest.mark.parametrize("ahead", ["99999999999999-5", "NOW-999999999"])
def test_no_event_has_the_id_of_another_when_the_newest_is_later_than_now(context: Context, ahead: str) -> None:
    context.submit(1, [job(id) for id in range(1, 5)])
    (last,) = (entry for entry, _ in entries(context))
    later = ahead.replace("NOW", str(order_of(last)[0] + 60_000))
    context.wire.ask(("XADD", context.keys.events(1), later, "e", '"kind":"flow","at":1,"status":"Started"'))
    first, *_ = context.take(4)
    context.log(first, "one")
    context.cancel(1)

    ids = check_cursors(context)
    assert len(ids) == 1 + 1 + 4 + 1 + 4 + 1


def test_a_log_between_two_entries_has_an_id_of_its_own(context: Context) -> None:
    context.submit(1, [job(id) for id in range(1, 5)])
    taken = context.take(4)
    log = attempts.append_log(context.keys, f"job:{CALLER}:{taken[0].id}", taken[0].token, "stdout", ["one"])
    reports = [attempts.finish(context.keys, f"job:{CALLER}:{attempt.id}", attempt.token, b"{}") for attempt in taken]
    context.wire.ask(joined.many([reports[1], reports[2], log, reports[0], reports[3]]))

    check_cursors(context)
    kinds = [event["kind"] for event in context.events(1)]
    assert kinds == ["flow", *["job"] * 4, *["job"] * 2, "log", *["job"] * 2, "flow"]


def test_who_has_read_a_part_of_the_oldest_entry_that_is_kept_has_missed_nothing(context: Context) -> None:
    context.submit(1, [job(id) for id in (1, 2, 3)])
    context.take(3)
    ids = check_cursors(context)
    context.wire.ask(("XTRIM", context.keys.events(1), "MAXLEN", 1))

    assert [context.events_page(1, after=id)["missed"] for id in ids] == [True, False, False, False]
    assert context.events_page(1)["missed"]
    assert [event["event_id"] for event in context.events(1)] == ids[1:]


def test_many_events_of_one_call_are_several_entries(context: Context) -> None:
    context.submit(1, [job(id) for id in range(1, 151)])
    context.take(150)

    sizes = [sum(map(len, events)) for _, events in entries(context)]
    assert len(sizes) > 3
    assert max(sizes) < 5000
    events = context.events(1, limit=7)
    assert len(events) == 151
    assert events == context.events(1)


def test_what_is_in_the_place_of_events_is_no_ones_fault_and_followers_are_told(context: Context) -> None:
    context.submit(1, [job(1)])
    context.wire.ask(("SET", context.keys.events(1), "no stream"))

    context.run_all()

    page = context.events_page(1)
    assert page["missed"]
    assert page["events"][-1]["status"] == "Finished"
    assert context.load_flow(1)["status"] == "Finished"


def test_a_flow_that_ends_as_it_begins_has_events_for_a_time(new_context: NewContext) -> None:
    context = new_context(event_retention=100)
    context.create_flow(1, [])
    context.start(1)

    assert [event["status"] for event in context.events(1)] == ["Started", "Finished"]
    assert 0 < keep_time(context, 1) <= 100_000
