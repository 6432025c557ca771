"""Filters and orders of lists, on the store: each is compared with what a filter written in Python says of all there
is, in pages of every size and slices so small that none has all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from pydantic_core import to_json

from coordinator import models
from coordinator.errors import InvalidParams
from coordinator.operations import listing, selecting
from coordinator.storage import codec
from coordinator.storage.functions import views
from tests.execution.driver import CALLER, Context, Runner, job

SECOND = 1_700_000_000
NASTY = [",", '"', 'a","b', "\\", "ä", "[", "%d+", "a b"]
OTHER = 4_294_967_295


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selecting, "LOOKED_AT", 3)
    monkeypatch.setattr(listing, "LOOKED_AT", 3)
    monkeypatch.setattr(listing, "EXAMINED", 12)


@pytest.fixture
def filled(context: Context, small_slices: None) -> Context:
    """Thirty jobs in every status, of two callers, run by two runners, made and ended at times that do not go by id."""
    for at in range(10):
        jobs = [
            job(100 + 3 * at, name=f"fetch {at}", tags=["odd" if at % 2 else "even", NASTY[at % len(NASTY)]]),
            job(101 + 3 * at, [100 + 3 * at], name=f"füll {at}", retries=at % 2),
            job(102 + 3 * at, [101 + 3 * at] if at < 5 else []),
        ]
        named = {"name": f"flow {at % 3}", "tags": ["night"]} if at % 2 else {}
        context.submit(at + 1, jobs, **named)
    context.create_job(1, tags=["a", "b"])
    other = {**job(5, tags=["even"]), "caller_id": OTHER}
    context.create_jobs([other])
    for at, attempt in enumerate(context.take(3, Runner(3)) + context.take(6, Runner(4))):
        if at % 3 == 0:
            context.finish(attempt)
        elif at % 3 == 1:
            context.fail(attempt)
    for id in range(1, 11):
        context.wire.ask(("HSET", context.keys.flow(id), "created_at", SECOND + (id * 7) % 5))
    for at, it in enumerate(everything(context.list_jobs)):
        key = context.keys.job(it["caller_id"], it["id"])
        context.wire.ask(("HSET", key, "created_at", SECOND + (at * 7) % 5))
        (ended,) = context.wire.ask(("HGET", key, "x_ended"))
        if ended is not None:
            context.wire.ask(("HSET", key, "x_ended", (SECOND + (at * 11) % 4) * 1000 + at))
    return context


def everything(pages: Callable[..., Any], limit: int = 1000, **params: Any) -> list[Any]:
    """All items of all pages, of which none is empty but the only one or the last."""
    items: list[Any] = []
    page = pages(limit=limit, **params)
    while "cursor" in page:
        assert page["items"], "a page is empty before the end"
        assert len(page["items"]) <= limit
        items += page["items"]
        page = pages(limit=limit, **{**params, "cursor": page["cursor"]})
    return [*items, *page["items"]]


def facts(context: Context, kind: str, item: Any) -> dict[str, Any]:
    """What a filter may look at."""
    key = context.keys.job(item["caller_id"], item["id"]) if kind == "job" else context.keys.flow(item["id"])
    (values,) = context.wire.ask(("HMGET", key, "x_ended", "x_attempt"))
    ended, attempt = values
    is_over = item["status"] in ("Finished", "Error")
    return {
        **item,
        "ended": int(ended) if is_over and ended is not None else None,
        "runner": int(attempt.split(b" ")[2]) if attempt and b" " in attempt else None,
    }


def is_meant(of: dict[str, Any], filter: dict[str, Any]) -> bool:
    tests: dict[str, Callable[[Any], bool]] = {
        "status": lambda wanted: of["status"] == wanted,
        "statuses": lambda wanted: of["status"] in wanted,
        "name_prefix": lambda wanted: of.get("name") is not None and of["name"].startswith(wanted),
        "tag": lambda wanted: wanted in of.get("tags", []),
        "caller_id": lambda wanted: of["caller_id"] == wanted,
        "runner_id": lambda wanted: of["runner"] == wanted,
        "created_from": lambda wanted: of["created_at"] >= wanted,
        "created_to": lambda wanted: of["created_at"] < wanted,
        "ended_from": lambda wanted: of["ended"] is not None and of["ended"] >= wanted * 1000,
        "ended_to": lambda wanted: of["ended"] is not None and of["ended"] < wanted * 1000,
    }
    return all(tests[name](wanted) for name, wanted in filter.items())


COMMON: list[dict[str, Any]] = [
    {},
    {"statuses": ["Error", "Finished"]},
    {"status": "Started", "statuses": ["Error"]},
    {"name_prefix": "f"},
    {"name_prefix": "flow 1", "tag": "night"},
    {"name_prefix": ""},
    {"caller_id": CALLER},
    {"caller_id": 1},
    {"created_from": SECOND + 1, "created_to": SECOND + 3},
    {"ended_from": SECOND + 1, "ended_to": SECOND + 3},
    {"ended_to": SECOND + 2},
    {"tag": "no such"},
]
OF_JOBS: list[dict[str, Any]] = [
    {"status": "WaitingForPrerequisites", "name_prefix": "fü"},
    {"caller_id": OTHER},
    {"runner_id": 3},
    {"runner_id": 4, "status": "Error"},
    *({"tag": tag} for tag in NASTY),
    {"tag": "even", "created_from": SECOND + 2},
]
CASES = [("flow", it) for it in COMMON] + [("job", it) for it in COMMON + OF_JOBS]
# The layout of keys makes no difference to them.
pytestmark = pytest.mark.parametrize("isolation", ["index"], indirect=True)

ORDERS = [(sort, descending) for sort in ("id", "created", "ended") for descending in (False, True)]


def ids_of(items: list[Any]) -> list[tuple[int, int]]:
    return [(item["caller_id"], item["id"]) for item in items]


def place(kind: str, sort: str, sign: int, of: dict[str, Any]) -> tuple[Any, ...]:
    """Where a record is in a list. `sign`: -1 if the newest come first."""
    by = {"id": 0, "created": of["created_at"], "ended": of["ended"]}[sort]
    first = float("inf") if by is None else sign * by
    return first, sign * of["caller_id"] if kind == "job" else 0, sign * of["id"]


def test_a_list_has_what_its_filter_means_in_its_order(filled: Context) -> None:
    compared = 0
    for kind, pages in (("flow", filled.list_flows), ("job", filled.list_jobs)):
        known = [facts(filled, kind, item) for item in everything(pages)]
        assert len(known) in (10, 32)
        for at, filter in enumerate(it for of, it in CASES if of == kind):
            for sort, descending in ORDERS if at == 0 else ORDERS[at % 3 :: 3]:
                meant = [of for of in known if is_meant(of, filter)]
                expected = ids_of(sorted(meant, key=partial(place, kind, sort, -1 if descending else 1)))
                for limit in (4, 1000):
                    found = everything(pages, limit, sort=sort, descending=descending, **filter)
                    assert ids_of(found) == expected, (kind, filter, sort, descending, limit)
                    compared += len(expected)
    assert compared > 500  # so filters do find something


def test_what_is_created_and_deleted_between_two_pages_moves_no_other(filled: Context) -> None:
    for sort, descending in ORDERS:
        before = ids_of(everything(filled.list_jobs, sort=sort, descending=descending))
        page = filled.list_jobs(limit=8, sort=sort, descending=descending)
        seen = ids_of(page["items"])
        filled.delete_job(1)
        filled.create_job(2)
        rest = ids_of(everything(filled.list_jobs, 5, sort=sort, descending=descending, cursor=page["cursor"]))
        changed = {(CALLER, 1), (CALLER, 2)}
        assert [it for it in [*seen, *rest] if it not in changed] == [it for it in before if it not in changed]
        filled.create_job(1)
        filled.delete_job(2)


def test_a_search_looks_at_so_many_in_a_call_and_ends_in_time(filled: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    ask = filled.wire.ask

    def counted(*commands: Any) -> Any:
        asked.extend(command for command in commands if b"hc_find" in str(command).encode())
        return ask(*commands)

    monkeypatch.setattr(filled.wire, "ask", counted)
    assert ids_of(filled.list_jobs(caller_id=CALLER, tag="a", limit=1)["items"]) == [(CALLER, 1)]
    assert len(asked) == 1
    assert filled.list_jobs(tag="nothing has it") == {"items": []}
    assert len(asked) == 1 + 32 // 3 + 1

    monkeypatch.setattr(listing, "SEARCHED_FOR", 0.0)
    page = filled.list_jobs(tag="nothing has it")
    assert (page["items"], page["cursor"]) == ([], f"{CALLER:010d}:{101:010d}")


@pytest.mark.parametrize("cursor", ["x", "1:2", "ended:1:2", "created:", "created:1", "created:x:1", "created:1:-1"])
def test_a_cursor_of_another_order_is_refused(context: Context, cursor: str) -> None:
    with pytest.raises(InvalidParams):
        context.list_jobs(sort="created", cursor=cursor)


def test_a_filter_may_not_want_what_there_is_not(context: Context) -> None:
    wrong: dict[str, Any]
    for wrong in (
        {"status": "Processed"},
        {"statuses": []},
        {"tag": ""},
        {"name_prefix": "a\nb"},
        {"created_from": 1.5},
    ):
        with pytest.raises(ValueError, match="validation error"):
            models.JobListParams.model_validate({"context_id": 1, **wrong})


def test_messages_are_found_by_status(context: Context, small_slices: None) -> None:
    for id in range(1, 9):
        context.create_message(id, [job(id)])
    for id in (2, 7):
        context.send(id)
        context.finish(context.take_one())

    def pages(**params: Any) -> Any:
        return context._call(listing.page_of(codec.MESSAGE), models.MessageListParams, **params)

    assert [it["id"] for it in everything(pages, 1, status="Processed")] == [2, 7]
    assert len(everything(pages, 2, status="Dispatched")) == 6


def slices(context: Context, wanted: Any, enough: int) -> Iterator[list[str]]:
    after = ""
    while True:
        found = context.wire.run(_found(context, wanted, after, enough))
        yield found["entries"]
        after = found["last"]
        if not after:
            return


def _found(context: Context, wanted: Any, after: str, enough: int) -> Any:
    found = yield from selecting.look_on(context.keys, wanted, after, enough)
    return to_json({"entries": [place.entry for place in found.places], "last": found.last})


def test_who_acts_on_many_looks_for_them_some_at_a_time(filled: Context) -> None:
    filter = models.FlowFilter(tag="night")
    looks = [*slices(filled, selecting.sought("flow", filter), 100)]

    assert [int(entry) for look in looks for entry in look] == [2, 4, 6, 8, 10]
    assert len(looks) > 3


@pytest.mark.parametrize("more", [{}, {"descending": True}, {"sort": "created"}, {"sort": "ended"}, {"tag": "a"}])
def test_a_status_that_nobody_has_takes_a_look_at_few(
    context: Context, small_slices: None, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    for id in range(1, 20):
        context.submit(id, [job(id, tags=["a"])])
    looks: list[Any] = []
    find = views.find

    def counting(*given: Any, **named: Any) -> Any:
        looks.append(given)
        return find(*given, **named)

    monkeypatch.setattr(views, "find", counting)

    assert context.list_jobs(status="Finished", **more) == {"items": []}
    assert context.list_jobs(statuses=["Error", "Finished"], **more) == {"items": []}
    assert len(looks) == 2
    if "tag" not in more:
        assert context.list_flows(status="Finished", **more) == {"items": []}
        assert len(looks) == 3

    attempt = context.take_one(Runner(3))
    context.finish(attempt)
    assert [it["id"] for it in everything(context.list_jobs, status="Finished", **more)] == [attempt.id]


def test_counts_that_cannot_be_right_are_not_relied_on(filled: Context) -> None:
    wanted = [it for it in everything(filled.list_jobs) if it["status"] == "Finished"]
    assert wanted
    filled.wire.ask(("HINCRBY", filled.keys.prefix + "counts", "Started>Finished", -len(wanted)))
    filled.wire.ask(("HINCRBY", filled.keys.prefix + "counts", "Finished>WaitingForPrerequisites", 1))
    filled.wire.ask(("HINCRBY", filled.keys.prefix + "counts", "Python>Dispatched", 1))

    assert everything(filled.list_jobs, status="Finished") == wanted
