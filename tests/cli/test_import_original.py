"""`herocoordinator import-original`: what the original has stored, made by hand from its models, becomes ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import result as call
from tests.support.commands import herocoordinator
from tests.support.server import ValkeyProcess, coordinator

pytestmark = pytest.mark.slow

CALLER = 11


def old_job(id: int, status: str, **members: Any) -> dict[str, Any]:
    return {
        "id": id,
        "caller_id": CALLER,
        "context_id": 3,
        "script": '"quoted" is how this one begins',
        "script_type": "python",
        "timeout": 60,
        "retries": 2,
        "env_vars": {"A": "1"},
        "result": {},
        "prerequisites": [],
        "dependends": [],
        "created_at": 1_700_000_000,
        "updated_at": 1_700_000_009,
        "status": status,
        **members,
    }


def old_flow(id: int, status: str, jobs: list[int], **members: Any) -> dict[str, Any]:
    times = {"created_at": 1_700_000_000, "updated_at": 1_700_000_009}
    maps: dict[str, Any] = {"env_vars": {}, "result": {}}
    return {"id": id, "caller_id": CALLER, "context_id": 3, "jobs": jobs, **maps, **times, "status": status, **members}


def plain(record: dict[str, Any]) -> Any:
    """Texts as they are, all else as JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in record.items()}


def as_json(record: dict[str, Any]) -> Any:
    return {name: json.dumps(value) for name, value in record.items()}


def fill(store: ValkeyProcess) -> None:
    times = {"created_at": 1_700_000_000, "updated_at": 1_700_000_001}
    actor = {"id": CALLER, "pubkey": "abc", "address": ["127.0.0.1", "::1"], **times}
    store.client().hset(f"actor:{CALLER}", mapping=plain(actor))
    here = store.client(db=3)
    here.hset("context:3", mapping=plain({"id": 3, "admins": [CALLER], "readers": [], "executors": [CALLER], **times}))
    here.hset(
        "runner:12001",
        mapping=as_json({"id": 12001, "pubkey": "", "address": "::1", "topic": "r12001", "local": True, **times}),
    )
    finished = old_job(1, "finished", result={"answer": "42"})
    here.hset(f"job:{CALLER}:1", mapping=plain(finished))
    here.hset(f"job:{CALLER}:2", mapping=as_json(old_job(2, "started", dependends=[1])))
    here.set(f"job:{CALLER}:3", json.dumps(old_job(3, "waiting_for_prerequisites", dependends=[2])))
    here.hset(f"job:{CALLER}:4", mapping=plain(old_job(4, "error")))
    here.hset("flow:1", mapping=plain(old_flow(1, "started", [1, 2, 3])))
    here.hset("flow:2", mapping=as_json(old_flow(2, "finished", [1], result={"1": "{}"})))
    here.hset("flow:3", mapping=plain(old_flow(3, "started", [1, 4])))
    message = {
        "id": 5,
        "caller_id": CALLER,
        "context_id": 3,
        "message": "hello",
        "message_type": "sal",
        "message_format_type": "md",
        "timeout": 1,
        "timeout_ack": 2,
        "timeout_result": 3,
        "job": [old_job(9, "dispatched", dependends=[])],
        "logs": ["one"],
        "status": "processed",
        **times,
    }
    here.hset(f"message:{CALLER}:5", mapping=plain(message))
    # What cannot be carried over.
    here.hset(f"job:{CALLER}:70", mapping=plain(old_job(70, "dispatched", script_type="cobol")))
    here.hset(f"job:{CALLER}:71", mapping=plain(old_job(72, "dispatched")))
    here.hset(f"job:{CALLER}:73", mapping={"script": b"\xff\xfe"})
    here.lpush(f"job:{CALLER}:74", "x")
    here.hset(f"message:{CALLER}:6", mapping=plain({**message, "id": 6, "message_type": "mail"}))
    here.lpush("queue:python", f"job:{CALLER}:2")
    here.set("strange", "x")
    no_members = {"id": 0, "admins": [], "readers": [], "executors": [], **times}
    store.client().hset("context:0", mapping=plain(no_members))
    store.client(db=4).set("context:5", "{}")
    ours = store.client(db=7)
    ours.hset("context:7", mapping=plain({**no_members, "id": 7}))
    ours.hset("engine", "schema", "8")
    store.client(db=6).hset("context:6", mapping={"id": "6", "admins": "[-1]"})


def everything(store: ValkeyProcess) -> dict[int, Any]:
    return {
        database: {key: store.client(db=database).dump(key) for key in store.client(db=database).scan_iter()}
        for database in (0, 3, 4, 6, 7)
    }


def test_what_the_original_has_is_said_then_brought_and_goes_on(store: ValkeyProcess, tmp_path: Path) -> None:
    fill(store)
    before = everything(store)
    data = tmp_path / "data"
    command = ("import-original", store.url, "--data-dir", str(data))

    dry = herocoordinator(*command)

    assert dry.returncode == 1, "something cannot be brought"
    assert not data.exists()
    said = dry.stdout
    assert "1 actor, 2 contexts\n" in said
    for part in (
        "context 3: 1 runner, 1 job Finished, 2 jobs Dispatched, 1 job Error, 1 flow Dispatched, 1 flow Finished, "
        "1 flow Error, 1 message Processed",
        "changed: flow:1: it was Started; flow.start goes on with it",
        "changed: flow:3: it was Started and job 4 had failed",
        f"changed: job:{CALLER}:2: it was running",
        "changed: queue:python: ",
        f"left: job:{CALLER}:70: script_type: ",
        f"left: job:{CALLER}:71: its id is 72, and by its key 71",
        f"left: job:{CALLER}:73: it has a text that is no UTF-8",
        f"left: job:{CALLER}:74: it is a list",
        f"left: message:{CALLER}:6: message_type: ",
        "left: strange: no record has this name",
        "left: database 4: it has no context:4",
        "left: context 7, all of it: it is one of a coordinator like this one",
        "left: context 6, all of it: context:6: admins.0: ",
        "--apply brings it",
    ):
        assert part in said, said

    brought = herocoordinator(*command, "--apply")

    assert "context 0: not brought: context 0 has the database of what is all contexts'" in brought.stdout
    assert "context 3: brought, " in brought.stdout, brought.stderr
    assert everything(store) == before, "the original's Redis is only read"
    with coordinator("--data-dir", str(data)) as server:
        assert call(server, "actor.load", id=CALLER)["address"] == ["127.0.0.1", "::1"]
        assert call(server, "context.load", id=3)["executors"] == [CALLER]
        assert call(server, "runner.load", context_id=3, id=12001)["topic"] == "r12001"
        job = call(server, "job.load", context_id=3, caller_id=CALLER, id=1)
        expected = old_job(1, "Finished", result={"answer": "42"}, script_type="Python")
        assert job == {**{("depends" if name == "dependends" else name): item for name, item in expected.items()}}
        scripts = {call(server, "job.load", context_id=3, caller_id=CALLER, id=id)["script"] for id in (1, 2, 3)}
        assert scripts == {'"quoted" is how this one begins'}, "however its texts are stored"
        message = call(server, "message.load", context_id=3, caller_id=CALLER, id=5)
        assert (message["message_format_type"], message["job"][0]["script_type"]) == ("Md", "Python")
        assert call(server, "flow.load", context_id=3, id=2)["result"] == {"1": "{}"}
        stats = call(server, "context.stats", context_id=3)
        assert stats["jobs"]["Dispatched"] == 2, stats
        # The flow goes on where it stood: job 1 does not run again, and what it resulted in is an input of job 2.
        call(server, "flow.start", context_id=3, id=1)
        ran = []
        while call(server, "flow.load", context_id=3, id=1)["status"] == "Started":
            asked = {"context_id": 3, "runner_id": 12001, "script_types": ["Python"]}
            for taken in call(server, "job.take", **asked, wait=20)["jobs"]:
                ran.append(taken["job"]["id"])
                if ran == [2]:
                    assert taken["inputs"] == {"1": {"answer": "42"}}
                report = {"context_id": 3, "caller_id": CALLER, "id": ran[-1], "token": taken["token"]}
                call(server, "job.finish", **report)
        assert ran == [2, 3]
        # And one that had failed can be tried again.
        assert call(server, "flow.retry", context_id=3, id=3)["status"] == "Started"
        (taken,) = call(server, "job.take", context_id=3, runner_id=12001, script_types=["Python"], wait=20)["jobs"]
        assert taken["job"]["id"] == 4

        again = herocoordinator(*command, "--apply", "--context", "3")

        assert "context 3: it is there already, and left as it is" in again.stdout
        assert call(server, "flow.load", context_id=3, id=1)["status"] == "Finished"


def test_what_is_no_redis_of_the_original_is_said(tmp_path: Path) -> None:
    nobody = herocoordinator("import-original", "redis://127.0.0.1:1")
    wrong = herocoordinator("import-original", "http://127.0.0.1:1")

    assert (nobody.returncode, "cannot connect to redis://127.0.0.1:1" in nobody.stderr) == (1, True)
    assert (wrong.returncode, "REDIS_URL" in wrong.stderr) == (2, True)
