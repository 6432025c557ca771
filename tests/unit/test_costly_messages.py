"""No message of the default limit of bytes takes much longer to read than an ordinary one of that size."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from coordinator.errors import InvalidParams, InvalidRequest
from coordinator.rpc.jsonrpc.counting import MAX_VALUES, has_more_values, is_costly
from coordinator.rpc.jsonrpc.decode import LARGE_CALL, Item, Reader
from coordinator.rpc.jsonrpc.params import ONE_BY_ONE
from coordinator.rpc.methods import METHODS
from tests.support.streaming import job

MIB: Final = 1024 * 1024
TIMES_AN_ORDINARY_ONE: Final = 4
PARTS: Final = 3
READER: Final = Reader(METHODS, 1000)


def call(method: str, params: str) -> str:
    return f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}'


def filled(before: str, item: str | Callable[[int], str], after: str, most: int = MIB) -> bytes:
    """A message of as many items as fit."""
    parts: list[str] = []
    size = len(before) + len(after) + 10
    while True:
        part = item if isinstance(item, str) else item(len(parts))
        size += len(part) + 1
        if size > most or len(parts) >= most:
            return (before + ",".join(parts) + after).encode()
        parts.append(part)


def text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def small_job(id: int) -> str:
    return text(job(1, id, "")["job"])


def job_with(member: str, opening: str) -> str:
    """A job.create up to the beginning of this member's value."""
    members = {name: value for name, value in job(1, 1, "")["job"].items() if name != member}
    return call("job.create", f'{{"context_id":1,"job":{text(members)[:-1]},"{member}":{opening}')


_MESSAGE: Final = {
    "id": 1,
    "caller_id": 1,
    "context_id": 1,
    "message": "",
    "message_type": "Python",
    "message_format_type": "Text",
    "timeout": 0,
    "timeout_ack": 0,
    "timeout_result": 0,
}
_FLOW: Final = {"id": 1, "caller_id": 1, "context_id": 1, "jobs": [], "env_vars": {}}
_IDS: Final = '"context_id":1,"caller_id":1,"id":1'
_ATTEMPT: Final = f'{{{_IDS},"token":"x"'


def numbered(end: str) -> Callable[[int], str]:
    return lambda at: f'"{at}":{end}'


SHAPES: Final[dict[str, tuple[str, str | Callable[[int], str], str]]] = {
    "addresses": (call("actor.create", '{"actor":{"id":1,"pubkey":"","address":['), '"::1"', "]}}}"),
    "addresses of many actors": (
        "[",
        call("actor.create", '{"actor":{"id":1,"pubkey":"","address":[' + ",".join(['"::1"'] * 60) + "]}}}"),
        "]",
    ),
    "admins": (
        call("context.create", '{"context":{"id":1,"readers":[],"executors":[],"admins":['),
        "1",
        "]}}}",
    ),
    "a list whose last item is bad": (
        call("context.create", '{"context":{"id":1,"readers":[],"executors":[],"admins":['),
        "1",
        ',"x"]}}}',
    ),
    "depends": (job_with("depends", "["), "1", "]}}}"),
    "prerequisites": (job_with("prerequisites", "["), '""', "]}}}"),
    "env_vars": (job_with("env_vars", "{"), numbered('""'), "}}}}"),
    "result": (call("job.finish", _ATTEMPT + ',"result":{'), numbered('""'), "}}}"),
    "lines": (call("job.log", _ATTEMPT + ',"lines":['), '""', "]}}"),
    "holding": (
        call("runner.subscribe", '{"context_id":1,"runner_id":1,"script_types":["V"],"capacity":1,"holding":['),
        '""',
        "]}}",
    ),
    "script types": (call("job.take", '{"context_id":1,"runner_id":1,"script_types":['), '"V"', "]}}"),
    "jobs of a flow": (call("flow.submit", f'{{"context_id":1,"flow":{text(_FLOW)},"jobs":['), small_job, "]}}"),
    "jobs of a message": (
        call("message.create", f'{{"context_id":1,"message":{text(_MESSAGE)[:-1]},"job":['),
        small_job,
        "]}}}",
    ),
    "logs of a message": (
        call("message.create", f'{{"context_id":1,"message":{text(_MESSAGE)[:-1]},"job":[],"logs":['),
        '""',
        "]}}}",
    ),
    "ids of a flow": (
        call("flow.create", '{"context_id":1,"flow":{"id":1,"caller_id":1,"context_id":1,"env_vars":{},"jobs":['),
        "1",
        "]}}}",
    ),
    "unknown members": (call("job.load", f"{{{_IDS},"), numbered("{}"), "}}"),
    "an unknown member of many": (call("job.load", f'{{{_IDS},"x":['), "[]", "]}}"),
    "nested": (call("job.load", f'{{{_IDS},"x":['), "[" * 190 + "]" * 190, "]}}"),
    "an unknown method": (call("x", "{"), numbered("{}"), "}}"),
    "params by position": (call("job.load", "["), "1", "]}"),
    "a batch of nothing": ("[", "{}", "]"),
    "a batch of numbers": ("[", "1", "]"),
    "the same member": ('{"jsonrpc":"2.0","method":"x",', '"id":1', "}"),
}
ORDINARY: Final = filled(
    "[", text({"jsonrpc": "2.0", "id": 1, "method": "job.create", "params": job(1, 1, "x" * 700)}), "]"
)


def fitting(before: str, item: str | Callable[[int], str], after: str) -> bytes:
    """As large as can be without having too many values."""
    low, high = 0, MIB
    while high - low > 1024:
        middle = (low + high) // 2
        if has_more_values(filled(before, item, after, middle), MAX_VALUES):
            high = middle
        else:
            low = middle
    return filled(before, item, after, low)


def seconds(data: bytes) -> float:
    """The shortest of a few readings: the machine may be busy."""
    best = float("inf")
    for _ in range(4):
        begun = time.process_time()
        _, items = READER.read(data, in_parts=True)
        next(iter(items), None)
        best = min(best, time.process_time() - begun)
    return best


@pytest.fixture
def garbage_as_in_the_server() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("garbage_as_in_the_server")
@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_takes_much_longer_than_an_ordinary_message(shape: str) -> None:
    ordinary = max(seconds(ORDINARY), 0.004)

    assert seconds(filled(*SHAPES[shape])) < TIMES_AN_ORDINARY_ONE * ordinary
    # Those with many values are read in parts, in another thread: that is more work in all.
    assert seconds(fitting(*SHAPES[shape])) < TIMES_AN_ORDINARY_ONE * PARTS * ordinary


def test_objects_of_a_list_are_looked_at_one_by_one_and_their_faults_are_told_as_ever() -> None:
    jobs = [job(1, id, "")["job"] for id in range(ONE_BY_ONE + 50)]
    flow = {**_FLOW, "jobs": [spec["id"] for spec in jobs]}
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "flow.submit"}

    def read(**params: Any) -> Any:
        data = text({**message, "params": {"context_id": 1, "flow": flow, **params}}).ljust(LARGE_CALL + 1).encode()
        outcomes = []
        for in_parts in (False, True):
            _, items = READER.read(data, in_parts=in_parts)
            [(_, _, outcome)] = items
            outcomes.append(outcome.data if isinstance(outcome, InvalidParams) else outcome)
        at_once, in_parts = outcomes
        assert at_once == in_parts
        return in_parts

    assert [spec.id for spec in read(jobs=jobs).jobs] == flow["jobs"]
    jobs[ONE_BY_ONE + 7] = {**jobs[7], "timeout": "soon"}
    (fault,) = read(jobs=jobs)
    assert fault["loc"] == ["jobs", ONE_BY_ONE + 7, "timeout"]
    (fault,) = read(jobs=[*jobs[:ONE_BY_ONE], 7, *jobs])
    assert fault["loc"] == ["jobs", ONE_BY_ONE]


@pytest.mark.parametrize(("message", "is_slow"), [("x" * 900_000, False), ("[" + "[]," * 90_000 + "1]", True)])
def test_what_is_slow_to_read_is_known_before(message: str, is_slow: bool) -> None:
    assert is_costly(message) is is_costly(message.encode()) is is_slow
    assert not is_costly(message[:1000])


def first(data: bytes) -> Item:
    _, items = READER.read(data)
    return next(iter(items))


@pytest.mark.parametrize("batch", [False, True])
def test_a_message_of_too_many_values_is_refused_with_its_id(batch: bool) -> None:
    message = filled(call("actor.create", '{"actor":{"id":1,"pubkey":"","address":['), '"::1"', "]}}}")

    id, method, error = first(b"[" + message + b"]" if batch else message)

    assert (id, method) == (b"1", None)
    assert isinstance(error, InvalidRequest)
    assert error.data["limit"] == MAX_VALUES


@pytest.mark.parametrize(
    "script",
    ["," * (MIB - 1000), '{"a":[1,2]},' * 70_000, "\\" * 400_000, '","' * 200_000, "[" * (MIB - 1000)],
    ids=["commas", "JSON", "backslashes", "quotes", "brackets"],
)
def test_what_is_in_a_text_does_not_count(script: str) -> None:
    message = text({"jsonrpc": "2.0", "id": 1, "method": "job.create", "params": job(1, 1, script)})

    for data in (message, message.encode()):
        _, items = READER.read(data)
        [(id, method, params)] = items
        assert (id, method) == (b"1", METHODS["job.create"])
        assert params.job.script == script


LISTS: Final = [
    ("actor.create", ("actor", "address"), '"::1"', 1_000),
    ("context.create", ("context", "admins"), "1", 10_000),
    ("context.create", ("context", "readers"), "1", 10_000),
    ("context.create", ("context", "executors"), "1", 10_000),
    ("flow.create", ("flow", "jobs"), "1", 100_000),
    ("message.create", ("message", "logs"), '""', 10_000),
    ("job.create", ("job", "env_vars"), '"":""', 10_000),
]
_GIVEN: Final[dict[str, dict[str, Any]]] = {
    "actor.create": {"actor": {"id": 1, "pubkey": "", "address": []}},
    "context.create": {"context": {"id": 1, "admins": [], "readers": [], "executors": []}},
    "flow.create": {"context_id": 1, "flow": _FLOW},
    "message.create": {"context_id": 1, "message": {**_MESSAGE, "job": []}},
    "job.create": job(1, 1, ""),
}


@pytest.mark.parametrize(("method", "place", "item", "limit"), LISTS)
def test_a_list_may_have_so_many_items(method: str, place: tuple[str, str], item: str, limit: int) -> None:
    outer, member = place

    def sent(count: int) -> bytes:
        items = json.loads(item) if ":" not in item[2:] or item == '"::1"' else None
        value = {str(at): "" for at in range(count)} if items is None else [items] * count
        params = _GIVEN[method]
        params = {**params, outer: {**params[outer], member: value}}
        return text({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()

    assert first(sent(limit))[1] is METHODS[method]
    _, _, error = first(sent(limit + 1))
    assert isinstance(error, InvalidParams)
    assert error.data[0]["loc"] == [outer, member]
    assert str(limit) in error.data[0]["msg"]
