"""`herocoordinator bridge`: jobs of a real coordinator run on runners that pop them from lists in a Redis."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.support.clients import result as call
from tests.support.commands import herocoordinator_started
from tests.support.flows import fields_of_job, submission
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator

pytestmark = pytest.mark.slow

CONTEXT = 4
CALLER = 7


def eventually(what: Callable[[], Any]) -> Any:
    began = time.monotonic()
    while not (found := what()):
        assert time.monotonic() - began < 60, "it did not happen"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    with coordinator("--data-dir", str(tmp_path_factory.mktemp("bridge") / "data")) as server:
        members = {"id": CONTEXT, "admins": [CALLER], "readers": [], "executors": [CALLER]}
        call(server, "actor.create", actor={"id": CALLER, "pubkey": "", "address": ["127.0.0.1"]})
        call(server, "context.create", context=members)
        yield server


class OldRunner:
    """What a runner of the original does with a job."""

    def __init__(self, store: ValkeyProcess) -> None:
        self.redis: Any = store.client(db=CONTEXT)
        self.popped: list[str] = []

    def pop(self) -> str:
        """The key of the next job, which has begun."""
        found = self.redis.brpop(["queue:python"], timeout=30)
        assert found is not None, "there is no job"
        key = str(found[1])
        self.popped.append(key)
        self.redis.hset(key, "status", "started")
        return key

    def end(self, key: str, status: str = "finished", **result: str) -> None:
        self.redis.hset(key, mapping={"result": json.dumps(result), "status": status})


@pytest.fixture
def old(store: ValkeyProcess) -> OldRunner:
    return OldRunner(store)


@pytest.fixture
def start(server: CoordinatorProcess, store: ValkeyProcess) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def bridge() -> subprocess.Popen[str]:
        place = ("--redis-url", store.url, "--url", server.ws, "--context", str(CONTEXT), "--lease", "1")
        process = herocoordinator_started("bridge", *place, "--type", "Python")
        started.append(process)
        return process

    yield bridge
    for process in started:
        process.kill()
        process.communicate()


def submitted(server: CoordinatorProcess, id: int, jobs: dict[int, list[int]], **members: Any) -> None:
    flow = submission(CONTEXT, jobs)
    flow["flow"]["id"] = id
    for job in flow["jobs"]:
        job.update(members)
    call(server, "flow.submit", **flow)


def flow_is(server: CoordinatorProcess, id: int, status: str) -> bool:
    return bool(call(server, "flow.load", context_id=CONTEXT, id=id)["status"] == status)


def attempts(server: CoordinatorProcess, id: int) -> int:
    return int(call(server, "flow.status", context_id=CONTEXT, id=id)["jobs"][0]["attempt"])


def job(server: CoordinatorProcess, id: int) -> Any:
    return call(server, "job.load", context_id=CONTEXT, caller_id=CALLER, id=id)


def test_an_old_runner_does_what_the_coordinator_has(
    server: CoordinatorProcess, old: OldRunner, start: Callable[[], subprocess.Popen[str]]
) -> None:
    process = start()
    submitted(server, 1, {1: [], 2: [1]}, env_vars={"A": "1"}, retries=1)

    first = old.pop()
    assert first == f"job:{CALLER}:1"
    stored = old.redis.hgetall(first)
    assert (stored["script_type"], stored["dependends"], json.loads(stored["env_vars"])) == ("python", "[]", {"A": "1"})
    assert stored["script"] == fields_of_job(CONTEXT, 1)["script"]
    time.sleep(1.5)  # longer than the lease
    old.end(first, "error", error="not today")
    again = old.pop()
    assert again == first, "it has an attempt left"
    old.end(again, answer="42")
    second = old.pop()
    assert json.loads(old.redis.hget(second, "dependends")) == [1]
    # Told to stop, it waits for what an old runner has.
    process.send_signal(signal.SIGTERM)
    time.sleep(1.0)
    assert process.poll() is None
    old.end(second)
    assert process.wait(30) == 0

    assert eventually(lambda: flow_is(server, 1, "Finished"))
    assert job(server, 1)["result"] == {"answer": "42"}
    assert old.redis.llen("queue:python") == 0


def test_what_a_bridge_had_that_was_killed_is_pushed_no_second_time(
    server: CoordinatorProcess, old: OldRunner, start: Callable[[], subprocess.Popen[str]]
) -> None:
    first = start()
    for id in (21, 22, 23):
        submitted(server, id, {id: []}, retries=3)
        eventually(partial(old.redis.exists, f"job:{CALLER}:{id}"))
    running, ended = old.pop(), old.pop()
    assert (running, ended) == (f"job:{CALLER}:21", f"job:{CALLER}:22")
    first.kill()
    first.wait(30)
    old.end(ended, answer="42")  # nobody takes that now

    start()

    # What ran is lost for good, what has ended counts, and what no runner had popped is there once.
    assert eventually(lambda: flow_is(server, 21, "Error"))
    assert "it may have run" in call(server, "flow.load", context_id=CONTEXT, id=21)["result"]["error"]
    assert attempts(server, 21) == 2, "the second one has not begun, and there is no third"
    assert eventually(lambda: flow_is(server, 22, "Finished"))
    assert job(server, 22)["result"] == {"answer": "42"}
    eventually(lambda: old.redis.hget(f"job:{CALLER}:23", "bridge_attempt") == "2")
    assert old.redis.lrange("queue:python", 0, -1) == [f"job:{CALLER}:23"]
    last = old.pop()
    old.end(last)
    assert eventually(lambda: flow_is(server, 23, "Finished"))
    assert old.redis.lrange("queue:python", 0, -1) == []
    assert old.popped == [running, ended, last]


def test_what_is_gone_from_the_redis_is_pushed_no_second_time(
    server: CoordinatorProcess, old: OldRunner, start: Callable[[], subprocess.Popen[str]]
) -> None:
    start()
    submitted(server, 41, {41: []}, retries=3)
    old.pop()
    old.redis.flushdb()

    assert eventually(lambda: flow_is(server, 41, "Error"))
    assert "not in the old runners' Redis" in call(server, "flow.load", context_id=CONTEXT, id=41)["result"]["error"]
    assert attempts(server, 41) == 1


def test_a_cancelled_job_that_waits_is_taken_back(
    server: CoordinatorProcess, old: OldRunner, start: Callable[[], subprocess.Popen[str]]
) -> None:
    process = start()
    submitted(server, 31, {31: []})
    submitted(server, 32, {32: []})
    eventually(lambda: old.redis.llen("queue:python") == 2)

    call(server, "flow.cancel", context_id=CONTEXT, id=31)
    eventually(lambda: old.redis.lrange("queue:python", 0, -1) == [f"job:{CALLER}:32"])
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0

    assert old.redis.keys("*") == [], "told to stop, it has taken back what waits"
    assert flow_is(server, 32, "Started"), "for others"


def test_a_redis_that_is_not_there_or_ours_is_said(store: ValkeyProcess) -> None:
    store.client(db=5).hset("engine", "schema", "8")
    process = herocoordinator_started("bridge", "--redis-url", f"{store.url}/5")
    _, said = process.communicate(timeout=60)
    assert (process.returncode, "database 5 of that Redis has a context of a coordinator" in said) == (1, True)

    process = herocoordinator_started("bridge", "--redis-url", "redis://127.0.0.1:1")
    _, said = process.communicate(timeout=60)

    assert (process.returncode, "cannot connect to redis://127.0.0.1:1" in said) == (1, True)
