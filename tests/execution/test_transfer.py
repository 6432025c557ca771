"""A context that is exported and imported elsewhere is the same there, and goes on; a file or an import that is not
whole leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from coordinator import models
from coordinator.errors import StorageError
from coordinator.operations import records
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.exported import Damaged, Header, verify
from coordinator.storage.exporting import export_context
from coordinator.storage.importing import Imported, abandon_import, import_context
from coordinator.storage.keys import GLOBAL, Isolation, Layout
from coordinator.storage.visit import CannotTransfer, VisitedStore
from tests.execution.conftest import SHARED_DATABASE
from tests.execution.driver import CALLER, Context, Runner, job
from tests.execution.wire import Wire
from tests.support.exchanges import alone
from tests.support.server import ValkeyProcess

OTHER = 7  # a database that prefixed contexts share at the target


def place(store: ValkeyProcess, isolation: Isolation, database: int = SHARED_DATABASE) -> VisitedStore:
    layout = Layout(isolation, database if isolation == "prefix" else 0, "import-1 3600000 0")
    return VisitedStore(Endpoint(host="127.0.0.1", port=store.port, database=layout.database), layout)


def exported(store: VisitedStore, path: Path, context: int = 1) -> list[bytes]:
    """The lines of the context."""
    with path.open("wb") as file:
        trio.run(export_context, store, context, "0.0.1", 1_795_000_000_000, file.write, lambda *_: None)
    return path.read_bytes().splitlines(keepends=True)


def imported(store: VisitedStore, path: Path, *, replace: bool = False, keep_actors: bool = False) -> Imported:
    async def work() -> Imported:
        header = verify(path, lambda _: None)
        return await import_context(
            store, path, header, replace=replace, keep_actors=keep_actors, on_progress=lambda _: None
        )

    return trio.run(work)


def keys_of(store: ValkeyProcess, database: int, prefix: str = "") -> set[str]:
    return {*store.client(database).scan_iter(f"{prefix}*", count=10_000)}


def create_members(context: Context, store: ValkeyProcess, layout: Layout, pubkey: str = "ed25519:abc") -> None:
    """An actor, and the context's record, which names it."""
    everywhere = layout.keyspace(GLOBAL)
    wire = Wire(store.port, layout.database_of(GLOBAL))
    actor = models.ActorCreateParams.model_validate(
        {"actor": {"id": CALLER, "pubkey": pubkey, "address": ["::1"]}}, strict=False
    )
    wire.run(alone(records.create_actor(everywhere, actor)))
    wire.close()
    members = {"id": context.id, "admins": [CALLER], "readers": [CALLER, 8], "executors": []}
    params = models.ContextCreateParams.model_validate({"context": members})
    context.wire.run(alone(records.create_context(context.keys, params)))


def fill(context: Context) -> Any:
    """Something of everything, and an attempt that runs."""
    context.create_runner(3)
    context.submit(1, [job(1, script="print('\x00 é 𝄞')", env_vars={"KEY": "wärt"}), job(2, [1], retries=2)])
    context.log(context.take_one(), "hello", "wörld")
    context.wire.ask(("SET", f"{context.keys.prefix}odd", b"\xff\xfe\x00 no UTF-8"))
    running = context.take(1)
    assert not running
    context.submit(5, [job(number, retries=1) for number in range(100, 860)])  # in slices
    context.settle()
    for attempt in context.take(300):
        context.finish(attempt, answer="42" * 10)
    context.fail(context.take_one(), "broken")
    context.create_job(11)
    context.create_flow(6, [11])
    context.submit(7, [job(12, prerequisites=["approved", "weather"])])
    context.satisfy("approved", 7, payload={"by": "x"})
    context.satisfy("everywhere")
    context.create_message(1, [job(20), job(21, [20])], timeout=6000)
    context.send(1)
    context.submit(8, [job(30)])
    context.cancel(8, "no longer wanted")
    return context.take_one(Runner(3, "a session"))


@pytest.fixture
def other(isolation: Isolation) -> Isolation:
    return "prefix" if isolation == "index" else "index"


def test_a_round_trip_between_layouts_is_equal_and_the_context_goes_on(
    context: Context, store: ValkeyProcess, isolation: Isolation, other: Isolation, tmp_path: Path
) -> None:
    here = place(store, isolation)
    target = place(store, other, OTHER)
    wire = Wire(store.port, target.layout.database_of(1))
    there = Context(wire, target.layout, 1)
    create_members(context, store, here.layout)
    attempt = fill(context)
    before = context.status(5)
    lines = exported(here, tmp_path / "a.jsonl")
    if other == "index":  # the same server: what is there is another context to it
        store.client(1).flushdb()

    done = imported(target, tmp_path / "a.jsonl")
    again = exported(target, tmp_path / "b.jsonl")

    assert lines[1:] == again[1:]
    assert done.actors == 1
    assert there.status(5) == before
    assert there.load_job(1)["script"] == "print('\x00 é 𝄞')"
    assert wire.ask(("GET", f"{there.keys.prefix}odd")) == [b"\xff\xfe\x00 no UTF-8"]
    there.heartbeat(attempt)
    assert there.finish(attempt, a="b")["status"] == "Finished"
    there.satisfy("weather")
    for _ in range(4):
        there.later(120)  # the lease of the attempt that is lost, and pauses, end
        there.run_all()
    assert {there.load_flow(id)["status"] for id in (1, 5, 7)} == {"Finished"}
    assert there.load_flow(6)["status"] == "Dispatched"
    assert there.load_message(1)["status"] == "Processed"
    contexts = store.client(target.layout.database_of(GLOBAL))
    prefix = "" if other == "index" else "{global}:"
    assert contexts.zscore(f"{prefix}contexts", 1) == 1
    assert contexts.smembers(f"{prefix}engaged:import-1") == {"1"}
    assert contexts.zscore(f"{prefix}coordinators", "import-1") == 0
    wire.close()


def test_leases_stand_still_from_the_export_to_the_import(
    context: Context, store: ValkeyProcess, isolation: Isolation, tmp_path: Path
) -> None:
    context.submit(1, [job(1)])
    context.pass_time(1000)
    attempt = context.take_one()
    here = place(store, isolation)
    exported(here, tmp_path / "a.jsonl")
    context.pass_time(3600)
    imported(here, tmp_path / "a.jsonl", replace=True)
    context.tick()
    assert context.statuses(1) == {1: "Started"}
    context.later(29)
    assert context.statuses(1) == {1: "Started"}
    context.later(2)
    assert context.progress(1, 1)["lost"] == 1
    context.later(5)
    assert context.take_one(Runner(4)).number == attempt.number + 1


def test_a_context_that_is_there_is_refused_and_replaced_only_if_that_is_said(
    context: Context, store: ValkeyProcess, isolation: Isolation, tmp_path: Path
) -> None:
    here = place(store, isolation)
    context.submit(1, [job(1)])
    exported(here, tmp_path / "a.jsonl")
    context.submit(2, [job(2)])
    before = keys_of(store, here.layout.database_of(1), context.keys.prefix)

    with pytest.raises(CannotTransfer, match="there is a context 1 already; --replace"):
        imported(here, tmp_path / "a.jsonl")

    assert keys_of(store, here.layout.database_of(1), context.keys.prefix) == before
    assert context.load_flow(2)["status"] == "Started"
    imported(here, tmp_path / "a.jsonl", replace=True)
    assert [flow["id"] for flow in context.list_flows()["items"]] == [1]
    assert [attempt.id for attempt in context.run_all()] == [1]


def test_an_actor_with_another_key_is_not_given_the_rights_of_the_exported_one(
    context: Context, store: ValkeyProcess, isolation: Isolation, tmp_path: Path
) -> None:
    here = place(store, isolation)
    create_members(context, store, here.layout)
    exported(here, tmp_path / "a.jsonl")
    create_members(context, store, here.layout, "ed25519:another")
    with pytest.raises(CannotTransfer, match="actor 7 is there with another key"):
        imported(here, tmp_path / "a.jsonl", replace=True)
    assert imported(here, tmp_path / "a.jsonl", replace=True, keep_actors=True).actors == 0


def test_what_writes_to_a_context_waits_while_it_is_held_and_reading_goes_on(
    context: Context, store: ValkeyProcess, isolation: Isolation, tmp_path: Path
) -> None:
    here = place(store, isolation)
    context.submit(1, [job(1)])
    seen: list[str] = []

    def look(line: bytes) -> None:
        if not seen:
            with pytest.raises(StorageError, match="TRYAGAIN this context is being exported"):
                context.take(1)
            assert context.events(1)
            assert context.load_job(1)["status"] == "Dispatched"
        seen.append(line.decode())

    trio.run(export_context, here, 1, "0.0.1", 0, look, lambda *_: None)
    assert seen
    assert context.take_one().number == 1


def test_an_export_that_was_killed_lets_the_context_go_by_itself(
    context: Context, store: ValkeyProcess, isolation: Isolation
) -> None:
    context.submit(1, [job(1)])
    attempt = context.take_one()
    (held,) = context.wire.ask(("HGET", context.keys.engine, "skew"))
    call = ("FCALL", "hc_hold", 1, context.keys.engine, "export", "killed", 60)
    context.wire.ask(call)
    with pytest.raises(StorageError):
        context.heartbeat(attempt)
    time.sleep(0.1)
    context.heartbeat(attempt)
    (skew,) = context.wire.ask(("HGET", context.keys.engine, "skew"))
    assert int(skew) <= int(held or 0) - 60


KILLED_AT = ("staging", "commit")


@pytest.mark.parametrize("at", KILLED_AT)
def test_what_an_import_that_was_killed_has_left_is_not_to_be_seen_and_the_next_one_deletes_it(
    context: Context, store: ValkeyProcess, isolation: Isolation, tmp_path: Path, at: str
) -> None:
    here = place(store, isolation)
    context.submit(1, [job(1)])
    lines = exported(here, tmp_path / "a.jsonl")
    database, prefix = here.layout.database_of(1), context.keys.prefix
    client = store.client(database)
    client.delete(*keys_of(store, database, prefix))
    # As a process that was killed leaves it.
    context.wire.ask(("FCALL", "hc_hold", 1, context.keys.engine, "import" if at == "staging" else "commit", "dead", 0))
    client.hset(f"{prefix}import:job:7:1", "status", "Finished")
    if at == "commit":
        client.hset(f"{prefix}job:7:2", "status", "Finished")
        client.hset(context.keys.engine, "schema", "5")
    with pytest.raises(StorageError, match="was not finished; run it again"):
        context.submit(9, [job(1)])
    with pytest.raises(CannotTransfer, match="there is nothing in context 1"):
        exported(here, tmp_path / "c.jsonl")
    assert context.list_jobs()["items"] == []

    if at == "commit":
        assert trio.run(abandon_import, here, 1) is True
        assert keys_of(store, database, prefix) == set()
        assert trio.run(abandon_import, here, 1) is False
    imported(here, tmp_path / "a.jsonl")

    assert exported(here, tmp_path / "b.jsonl")[1:] == lines[1:]


def test_an_import_that_fails_leaves_nothing(
    context: Context, store: ValkeyProcess, isolation: Isolation, tmp_path: Path
) -> None:
    context.submit(1, [job(1)])
    here = place(store, isolation)
    lines = exported(here, tmp_path / "a.jsonl")
    database, prefix = here.layout.database_of(1), context.keys.prefix
    store.client(database).delete(*keys_of(store, database, prefix))
    wrong = b'{"key":"index:job","list":["a"]}\n'  # what is no list is not added to
    body = [*lines[1:-1], wrong]
    end = json.dumps({"lines": len(body), "sha256": hashlib.sha256(b"".join(body)).hexdigest()}).encode() + b"\n"
    (tmp_path / "b.jsonl").write_bytes(b"".join([lines[0], *body, end]))

    with pytest.raises(CannotTransfer, match="WRONGTYPE"):
        imported(here, tmp_path / "b.jsonl")

    assert keys_of(store, database, prefix) == set()


def damaged(lines: Sequence[bytes]) -> dict[str, tuple[bytes, str]]:
    whole = b"".join(lines)
    flipped = bytearray(whole)
    flipped[len(lines[0]) + len(lines[1]) + 30] ^= 1
    header = json.loads(lines[0])
    return {
        "empty": (b"", "line 1: the file ends before"),
        "cut in a line": (whole[:-30], f"line {len(lines)}: the file ends in the middle"),
        "cut between lines": (b"".join(lines[:-2]), f"line {len(lines) - 1}: the file ends before the export does"),
        "a line lost": (
            b"".join([*lines[:2], *lines[3:]]),
            f"line {len(lines) - 1}: what is before it is not what was",
        ),
        "a bit": (bytes(flipped), "line"),
        "twice": (whole + whole, f"line {len(lines) + 1}: there is more than one"),
        "no JSON": (b"".join([lines[0], b"{\n", *lines[1:]]), "line 2: it is no JSON"),
        "no object": (b"".join([lines[0], b"[]\n", *lines[1:]]), "line 2: it is no object"),
        "something else": (b'{"a":1}\n', "line 1: this is no export"),
        "newer": (
            json.dumps({**header, "format": 2}).encode() + b"\n",
            "line 1: it has format 2, and this version reads 1",
        ),
        "no context": (json.dumps({**header, "context": -1}).encode() + b"\n", "line 1: `context` is missing or wrong"),
        "odd key": (lines[0] + b'{"key":"writer:x","string":""}\n', "line 2: `writer:x` is no key"),
        "the hold": (lines[0] + b'{"key":"engine","hash":{"skew":"0"}}\n', "line 2: `engine` is no key"),
        "odd value": (lines[0] + b'{"key":"x","hash":{"a":1}}\n', "line 2: it says neither"),
    }


def test_a_damaged_file_is_named_with_its_line_and_changes_nothing(
    context: Context, store: ValkeyProcess, isolation: Isolation, tmp_path: Path
) -> None:
    here = place(store, isolation)
    context.submit(1, [job(1)])
    lines = exported(here, tmp_path / "a.jsonl")
    for name, (content, said) in damaged(lines).items():
        file = tmp_path / "damaged.jsonl"
        file.write_bytes(content)
        with pytest.raises(Damaged, match=said) as fault:
            verify(file, lambda _: None)
        assert str(fault.value).startswith(f"{file}, line "), name
    assert isinstance(verify(tmp_path / "a.jsonl", lambda _: None), Header)


def test_a_context_that_is_not_there_cannot_be_exported(
    store: ValkeyProcess, isolation: Isolation, tmp_path: Path
) -> None:
    with pytest.raises(CannotTransfer, match="there is nothing in context 1"):
        exported(place(store, isolation), tmp_path / "a.jsonl")


def test_what_the_store_has_counted_is_not_exported(
    context: Context, store: ValkeyProcess, isolation: Isolation, tmp_path: Path
) -> None:
    context.submit(1, [job(1)])
    prefix = context.keys.prefix
    before = exported(place(store, isolation), tmp_path / "a.jsonl")
    context.wire.ask(
        ("HSET", f"{prefix}job:{CALLER}:1", "x_bytes", "1 500"),
        ("HSET", context.keys.engine, "bytes", "500", "count", "1", "counting", "job", "counted_at", "1"),
        ("ZADD", f"{prefix}timers", 1, "count:engine"),
    )

    after = exported(place(store, isolation), tmp_path / "b.jsonl")

    # The key of the timers alone is there that was not before.
    assert [line for line in after[1:-1] if b'"timers"' not in line] == before[1:-1]
    assert b'{"key":"timers","zset":[]}\n' in after


def test_what_all_contexts_share_is_not_held_still(new_context: Any, store: ValkeyProcess, tmp_path: Path) -> None:
    new_context(0).create_job(1)
    with pytest.raises(CannotTransfer, match="context 0 has the database of what is all contexts'"):
        exported(place(store, "index"), tmp_path / "a.jsonl", 0)
