"""Operations driven by hand, without a store: what they ask for and what they make of the replies."""

from __future__ import annotations

import json
from typing import Any

import hiredis
import pytest

from coordinator.actors.request import Compute, Operation
from coordinator.errors import CoordinatorError, DagCycleDetected, NotFound, ReplyTooLarge, StorageError
from coordinator.models import ActorLoadParams, FlowCreateParams, FlowLoadParams, Job, JobCreateParams, JobLoadParams
from coordinator.operations import records
from coordinator.storage.codec import ACTOR, JOB, fields_of
from coordinator.storage.keys import GLOBAL, Layout
from tests.support.exchanges import alone

PLAIN = Layout("index").keyspace(1)
STORED_JOB = {
    b"id": b"3",
    b"caller_id": b"2",
    b"context_id": b"1",
    b"script": 'print("é\x01")'.encode(),
    b"script_type": b"Python",
    b"timeout": b"0",
    b"retries": b"255",
    b"env_vars": b'{"A":"b"}',
    b"result": b"{}",
    b"prerequisites": b"[]",
    b"depends": b"[1,2]",
    b"created_at": b"1",
    b"updated_at": b"2",
    b"status": b"Dispatched",
}


def answer(operation: Operation, replies: Any) -> bytes:
    """Send the last step's replies; the operation's result."""
    with pytest.raises(StopIteration) as finished:
        operation.send(replies)
    result: bytes = finished.value.value
    return result


def unpacked(command: Any) -> Any:
    """A packed command's parts: it is an array, which a reader of replies reads as well."""
    reader = hiredis.Reader()
    reader.feed(command)
    return reader.gets()


def values_of(stored: dict[bytes, bytes]) -> list[bytes | None]:
    return [stored.get(name) for name in JOB.field_names]


def test_a_load_asks_for_one_hash_and_splices_its_fields() -> None:
    operation = alone(records.load_job(PLAIN, JobLoadParams(context_id=1, caller_id=2, id=3)))

    asked = next(operation)
    assert isinstance(asked, list)
    assert [unpacked(command) for command in asked] == [[b"HMGET", b"job:2:3", *JOB.field_names]]
    loaded = json.loads(answer(operation, [values_of(STORED_JOB)]))
    assert (loaded["id"], loaded["caller_id"], loaded["context_id"]) == (3, 2, 1)
    assert loaded["script"] == 'print("é\x01")'
    assert loaded["depends"] == [1, 2]
    assert list(loaded) == JOB_MEMBERS


JOB_MEMBERS = [name for name, member in Job.model_fields.items() if member.is_required()]


def test_a_load_of_nothing_says_what_is_missing() -> None:
    operation = alone(records.load_actor(PLAIN, ActorLoadParams(id=9)))
    next(operation)

    with pytest.raises(NotFound) as caught:
        operation.send([[None] * len(ACTOR.field_names)])

    assert caught.value.data["kind"] == "actor"
    assert caught.value.data["ids"] == {"id": 9}


def test_a_record_without_a_field_it_must_have_is_a_storage_error_that_names_it() -> None:
    operation = alone(records.load_job(PLAIN, JobLoadParams(context_id=1, caller_id=2, id=3)))
    next(operation)

    with pytest.raises(StorageError) as caught:
        operation.send([values_of({name: value for name, value in STORED_JOB.items() if name != b"script_type"})])

    assert "script_type" in caught.value.data["detail"]


def test_a_create_is_one_function_call_that_sends_only_what_was_given() -> None:
    members = {name: json.loads(STORED_JOB[name.encode()]) for name in ("id", "caller_id", "context_id", "timeout")}
    job = {
        **members,
        "script": "x",
        "script_type": "Sal",
        "retries": 1,
        "env_vars": {},
        "prerequisites": [],
        "depends": [],
    }
    operation = alone(records.create_job(PLAIN, JobCreateParams.model_validate({"context_id": 1, "job": job})))

    step = next(operation)
    assert isinstance(step, list)
    ((name, function, keys, key, _, _, *arguments),) = step
    assert (name, function, keys, key) == ("FCALL", "hc_job_upsert", 1, "engine")
    assert arguments[:2] == ["job:2:3", "0000000002:0000000003"]
    initial, _, given = str(arguments[2]).partition("|")
    assert initial == "status=Dispatched lost_retries= name= tags= result={}"
    stored = dict(zip(given.split(), arguments[3:], strict=True))
    plain = {name: value for name, value in job.items() if name not in ("env_vars", "prerequisites", "depends")}
    assert stored == {**plain, "env_vars": b"{}", "prerequisites": b"[]", "depends": b"[]"}


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (b"1000", {"created_at": 1000, "updated_at": 1000, "status": "Dispatched", "result": {}}),
        (
            b'900\x001000\0Finished\0\xff\0\xff\0\xff\0{"a":"b"}',
            {"created_at": 900, "updated_at": 1000, "status": "Finished", "result": {"a": "b"}},
        ),
    ],
)
def test_the_answer_to_a_create_is_what_was_given_and_what_was_kept(stored: bytes, expected: dict[str, Any]) -> None:
    members = {"id": 5, "caller_id": 7, "context_id": 1, "jobs": [1, 2]}
    params = FlowCreateParams.model_validate({"context_id": 1, "flow": {**members, "env_vars": {"x": '"'}}})
    operation = alone(records.create_flow(PLAIN, params))
    next(operation)

    assert json.loads(answer(operation, [([stored], [])])) == {**members, "env_vars": {"x": '"'}, **expected}


def test_a_create_over_a_record_that_lacks_what_it_keeps_is_a_storage_error_that_names_it() -> None:
    params = FlowCreateParams.model_validate(
        {"context_id": 1, "flow": {"id": 5, "caller_id": 7, "context_id": 1, "jobs": [], "env_vars": {}}}
    )
    operation = alone(records.create_flow(PLAIN, params))
    next(operation)

    with pytest.raises(StorageError, match="flow") as caught:
        operation.send([([b"900\x001000\0\xff\0\xff\0\xff\0\xff\0{}"], [])])

    assert "'status'" in caught.value.data["detail"]


def dag_of(depends: dict[int, list[int]]) -> Operation:
    """flow.dag of a flow with these jobs, driven up to its last step."""
    operation = records.flow_dag(PLAIN, FlowLoadParams(context_id=1, id=5))
    assert next(operation) == [("HMGET", "flow:5", "caller_id", "jobs")]
    step = operation.send([[b"7", json.dumps(list(depends)).encode()]])
    remaining = sorted(depends)
    while isinstance(step, list) and len(remaining) > len(step):
        assert len(step) <= records.DAG_CHUNK
        chunk, remaining = remaining[: len(step)], remaining[len(step) :]
        step = operation.send([summary(id, depends[id]) for id in chunk])
    assert isinstance(step, list)
    assert [unpacked(command)[1].decode() for command in step] == [f"job:7:{id}" for id in remaining]
    return operation


def summary(id: int, depends: list[int]) -> list[bytes]:
    return [json.dumps(depends).encode(), b"[]", b"Python"]


def test_a_small_dag_is_computed_at_once() -> None:
    depends: dict[int, list[int]] = {1: [], 2: [1, 1], 3: [1], 4: [2, 3]}
    operation = dag_of(depends)

    graph = json.loads(answer(operation, [summary(id, parents) for id, parents in depends.items()]))

    assert graph["levels"] == [[1], [2, 3], [4]]
    assert graph["edges"] == [[1, 2], [1, 3], [2, 4], [3, 4]]
    assert graph["nodes"]["2"] == {"id": 2, "depends": [1, 1], "prerequisites": [], "script_type": "Python"}
    assert (graph["flow_id"], graph["caller_id"], graph["context_id"]) == (5, 7, 1)


def test_a_large_dag_is_loaded_in_chunks_and_computed_in_a_thread() -> None:
    size = records.DAG_CHUNK * 2 + 10
    depends = {id: [id - 1] if id > 1 else [] for id in range(1, size + 1)}
    operation = dag_of(depends)
    last = 32 + 64 + 128 + 256 + 500  # by then

    step = operation.send([summary(id, depends[id]) for id in range(last + 1, size + 1)])

    assert isinstance(step, Compute)
    assert len(json.loads(answer(operation, step.run()))["levels"]) == size


def test_a_dense_dag_of_few_jobs_is_computed_in_a_thread() -> None:
    depends = {id: [*range(1, id)] for id in range(1, 33)}
    operation = dag_of(depends)

    step = operation.send([summary(id, depends[id]) for id in depends])

    assert isinstance(step, Compute)
    graph = json.loads(answer(operation, step.run()))
    assert len(graph["edges"]) == len(graph["reverse_edges"]) == 32 * 31 // 2


def test_a_dag_with_too_many_edges_is_refused_before_all_of_it_is_read() -> None:
    dense = [*range(1, 20_001)]
    operation = records.flow_dag(PLAIN, FlowLoadParams(context_id=1, id=5))
    next(operation)
    step = operation.send([[b"7", json.dumps(dense).encode()]])
    assert isinstance(step, list)

    with pytest.raises(ReplyTooLarge) as caught:
        operation.send([summary(id, dense) for id in range(1, len(step) + 1)])

    assert caught.value.data["flow"] == 5


def test_a_job_that_is_not_stored_is_named() -> None:
    operation = dag_of({1: [], 2: []})

    with pytest.raises(NotFound) as caught:
        operation.send([summary(1, []), [None, None, None]])

    assert caught.value.data["ids"] == {"context_id": 1, "caller_id": 7, "id": 2}


def test_a_cycle_comes_out_of_the_operation_as_its_error() -> None:
    operation = dag_of({1: [2], 2: [1]})

    with pytest.raises(CoordinatorError) as caught:
        operation.send([summary(1, [2]), summary(2, [1])])

    assert isinstance(caught.value, DagCycleDetected)


def test_the_prefix_layout_puts_every_key_of_a_context_under_one_hash_tag() -> None:
    layout = Layout("prefix", database=3)

    assert layout.keyspace(42).job(1, 2) == "{42}:job:1:2"
    assert layout.keyspace(GLOBAL).actor(1) == "{global}:actor:1"
    assert layout.database_of(42) == layout.database_of(GLOBAL) == 3


def test_a_hash_reads_the_same_from_a_map_and_from_a_flat_list() -> None:
    flat = [item for pair in STORED_JOB.items() for item in pair]

    assert JOB.to_json(fields_of(flat)) == JOB.to_json(STORED_JOB)
