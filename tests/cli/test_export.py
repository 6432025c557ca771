"""`herocoordinator export` and `import` beside coordinators that serve: from an embedded store to a cluster and on."""

from __future__ import annotations

import signal
import stat
import time
from pathlib import Path

import httpx
import pytest

from tests.support.clients import request
from tests.support.clients import result as call
from tests.support.cluster import cluster
from tests.support.commands import herocoordinator, herocoordinator_started
from tests.support.flows import database, fields_of_job, submission
from tests.support.server import CoordinatorProcess, coordinator

pytestmark = pytest.mark.slow

CONTEXT = 4


def done(*arguments: str) -> str:
    finished = herocoordinator(*arguments)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def fill(server: CoordinatorProcess) -> None:
    """A flow of which one job runs, one waits, and one has finished."""
    members = {"id": CONTEXT, "admins": [7], "readers": [], "executors": [7]}
    call(server, "actor.create", actor={"id": 7, "pubkey": "", "address": ["127.0.0.1"]})
    call(server, "context.create", context=members)
    for id in (3, 4):
        runner = {"id": id, "pubkey": "", "address": "127.0.0.1", "topic": f"runner{id}", "local": False}
        call(server, "runner.create", context_id=CONTEXT, runner=runner)
    call(server, "flow.submit", **submission(CONTEXT, {1: [], 2: [1], 3: [2]}))
    for id in (1, 2):
        asked = {"context_id": CONTEXT, "runner_id": 3, "script_types": ["Python"], "lease": 20}
        (taken,) = call(server, "job.take", **asked)["jobs"]
        if id == 1:
            report = {"context_id": CONTEXT, "caller_id": 7, "id": 1, "token": taken["token"]}
            call(server, "job.finish", **report, result={"answer": "42"})


def finish_all(server: CoordinatorProcess) -> None:
    while call(server, "flow.load", context_id=CONTEXT, id=1)["status"] != "Finished":
        asked = {"context_id": CONTEXT, "runner_id": 4, "script_types": ["Python"]}
        for taken in call(server, "job.take", **asked, wait=20)["jobs"]:
            report = {"context_id": CONTEXT, "caller_id": 7, "id": taken["job"]["id"], "token": taken["token"]}
            call(server, "job.finish", **report)


def test_a_context_goes_from_an_embedded_store_to_a_cluster_and_back(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{name}.jsonl" for name in "abc")
    with coordinator("--data-dir", str(tmp_path / "data")) as here:
        fill(here)
        said = done("export", "--data-dir", str(tmp_path / "data"), "--context", str(CONTEXT), str(first))
        assert f"context {CONTEXT}, " in said
        assert stat.S_IMODE(first.stat().st_mode) == 0o600
        assert not first.with_name("a.jsonl.part").exists()
        again = herocoordinator("export", "--data-dir", str(tmp_path / "data"), "--context", str(CONTEXT), str(first))
        assert (again.returncode, "is there already; --overwrite" in again.stderr) == (2, True)
        finish_all(here)  # it goes on here
    with cluster(tmp_path, replicas=False) as nodes:
        at = ("--redis-url", nodes.url, "--isolation", "prefix")
        with coordinator(*at) as there:
            said = done("import", *at, str(first))
            assert f"context {CONTEXT}: " in said
            assert "1 new actor, as it was at" in said
            assert call(there, "context.list")["items"] == [CONTEXT]
            assert call(there, "job.load", context_id=CONTEXT, caller_id=7, id=1)["result"] == {"answer": "42"}
            done("export", *at, "--context", str(CONTEXT), str(second))
            assert second.read_bytes().split(b"\n", 1)[1] == first.read_bytes().split(b"\n", 1)[1]
            # Nobody has called it about this context before: that it sees to the lease that ends is the import's doing.
            began = time.monotonic()
            while (progress := call(there, "flow.status", context_id=CONTEXT, id=1)["jobs"][1]).get("lost") != 1:
                assert time.monotonic() - began < 60, progress
                time.sleep(0.3)
            finish_all(there)
            done("export", *at, "--context", str(CONTEXT), str(third))
    assert done("import", "--data-dir", str(tmp_path / "new"), str(third))
    fourth = tmp_path / "d.jsonl"
    assert done("export", "--data-dir", str(tmp_path / "new"), "--context", str(CONTEXT), str(fourth))
    assert third.read_bytes().split(b"\n", 1)[1] == fourth.read_bytes().split(b"\n", 1)[1]
    with coordinator("--data-dir", str(tmp_path / "new")) as anew:
        assert call(anew, "flow.load", context_id=CONTEXT, id=1)["status"] == "Finished"


def test_what_is_interrupted_leaves_no_file_and_no_context(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    file = tmp_path / "a.jsonl"
    with coordinator("--data-dir", data) as here:
        jobs = [fields_of_job(CONTEXT, id, script="x" * 4000) for id in range(1, 6_001)]
        for first in range(0, len(jobs), 200):
            batch = [
                request("job.create", {"context_id": CONTEXT, "job": job}, id)
                for id, job in enumerate(jobs[first : first + 200])
            ]
            assert all("result" in reply for reply in httpx.post(here.http, json=batch, timeout=60).json())
        part = tmp_path / "a.jsonl.part"
        process = herocoordinator_started("export", "--data-dir", data, "--context", str(CONTEXT), str(file))
        while not (part.exists() and part.stat().st_size > 0):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert [path.name for path in tmp_path.iterdir()] == ["data"]
        done("export", "--data-dir", data, "--context", str(CONTEXT), str(file))
        call(here, "job.create", context_id=CONTEXT, job=jobs[0])

    there = str(tmp_path / "there")
    with coordinator("--data-dir", there) as target:
        store = database(tmp_path / "there", CONTEXT)
        for number, status in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
            process = herocoordinator_started("import", "--data-dir", there, str(file))
            while not next(store.scan_iter("import:*", count=1000), None):
                assert process.poll() is None
            process.send_signal(number)
            assert process.wait(30) == status, process.stderr and process.stderr.read()
            assert call(target, "job.list", context_id=CONTEXT)["items"] == []
            assert bool(next(store.scan_iter("import:*", count=1000), None)) is (number == signal.SIGKILL)
        refused = httpx.post(
            target.http, json=request("job.create", {"context_id": CONTEXT, "job": jobs[0]}, 1), timeout=60
        )
        assert "refused: an import into this context is under way, or was not finished" in refused.text
        assert "user_function" not in refused.text  # a place in the library is for whoever mends that
        held = str(store.hget("engine", "skew")).split(" ")
        store.hset("engine", "skew", " ".join([*held[:-1], "0"]))  # as after a quarter of a minute
        abandoned = done("import", "--data-dir", there, "--abandon", str(CONTEXT))
        assert "what an import had left is deleted" in abandoned
        assert not next(store.scan_iter("import:*", count=1000), None)
        done("import", "--data-dir", there, str(file))
        assert len(call(target, "job.list", context_id=CONTEXT, limit=1000)["items"]) > 100
