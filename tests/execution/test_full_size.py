"""Flows of 100,000 jobs, done in slices by a store as it is: no slice is more than a small part of the whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from coordinator.storage.keys import Command, Layout
from tests.execution.conftest import CONTEXT
from tests.execution.driver import CALLER, Context, job
from tests.execution.wire import Wire
from tests.support.server import ValkeyProcess, valkey

SIZE: Final = 100_000

# Copies of the second job, which has been created as any other. That creates work is shown elsewhere; here it is slow.
_COPIES: Final = """
local caller, first, last, half = unpack(ARGV)
for id = first, last do
  local key = 'job:' .. caller .. ':' .. id
  redis.call('COPY', 'job:' .. caller .. ':2', key)
  redis.call('HSET', key, 'id', id, 'depends', id > half + 0 and '[' .. id - half .. ']' or '[1]')
  redis.call('ZADD', 'index:job', 0, string.format('%010d:%010d', caller, id))
end
"""


class MeasuredWire(Wire):
    """Notes for how long the store's process worked at each pipeline, by the clock of its CPU time: what else this
    machine does meanwhile is not in it, as it is in the times of SLOWLOG."""

    def __init__(self, store: ValkeyProcess, database: int) -> None:
        self._clock = (~store.process.pid << 3) | 2  # clock_getcpuclockid(3)
        self.worked: list[float] = []
        super().__init__(store.port, database)

    def ask(self, *commands: Command) -> list[Any]:
        before = time.clock_gettime(self._clock)
        replies = super().ask(*commands)
        self.worked.append(time.clock_gettime(self._clock) - before)
        return replies


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ValkeyProcess]:
    with valkey(tmp_path) as running:
        yield running


@pytest.fixture
def wire(store: ValkeyProcess) -> Iterator[MeasuredWire]:
    wire = MeasuredWire(store, CONTEXT)
    yield wire
    wire.close()


@contextmanager
def each_call_is_short(context: Context, wire: MeasuredWire, what: str) -> Iterator[None]:
    """The store works at no call for longer than a small part of the whole."""
    wire.worked.clear()
    yield
    context.settle()
    times = sorted(wire.worked)
    calls, total, median, longest = len(times), sum(times), times[len(times) // 2], times[-1]
    print(f"{what}: {calls} calls, {total:.1f} s, median {median * 1e3:.1f} ms, longest {longest * 1e3:.1f} ms")
    assert calls > 100
    assert median < 0.01
    assert longest < total / 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_jobs_keep_the_store_for_no_long_call(wire: MeasuredWire) -> None:
    """One job, then half of all the others, then for each of those one more."""
    large = Context(wire, Layout("index", coordinator="coordinator 3600000 0"), CONTEXT)
    large.create_jobs([job(1), job(2, [1])])
    large.wire.ask(("EVAL", _COPIES, 0, CALLER, 3, SIZE, SIZE // 2))
    assert large.load_job(SIZE) == {**large.load_job(2), "id": SIZE, "depends": [SIZE // 2]}
    large.create_flow(1, range(1, SIZE + 1))

    with each_call_is_short(large, wire, "start"):
        assert large.start(1)["status"] == "Started"
    with each_call_is_short(large, wire, "finish of what half of them wait for"):
        large.finish(large.take_one())
    with each_call_is_short(large, wire, "fail"):
        large.fail(large.take_one())
        assert large.load_flow(1)["status"] == "Error"
    with each_call_is_short(large, wire, "retry"):
        assert large.retry(1)["status"] == "Started"
    attempts = large.take(10)
    assert len(attempts) == 10
    with each_call_is_short(large, wire, "cancel"):
        assert large.cancel(1)["status"] == "Error"
    with each_call_is_short(large, wire, "delete"):
        assert large.delete_flow(1) == SIZE + 1
