"""What a cheap call makes the coordinator and the store read is bounded, also if large records follow small ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from coordinator.osprocess import memory_limit
from tests.faults.test_bytes import MIB, RECORD, batch_of, create, growth, post
from tests.support.clients import request
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.streaming import job, job_ids

SMALL: Final = 150  # small records before the large ones
LARGE: Final = 60
MOST: Final = 96  # MiB the store, or the coordinator, may grow by; a fraction of what is asked for


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CoordinatorProcess]:
    with coordinator("--data-dir", str(tmp_path), "--max-unsent-bytes", str(4 * MIB), "--fsync", "everysec") as running:
        yield running


LISTS: Final = [
    {"limit": 1},
    {"limit": 1000},
    {"limit": 1, "cursor": f"{7:010d}:{SMALL:010d}"},
    {"limit": 1000, "status": "Dispatched"},
]


@pytest.mark.parametrize("params", LISTS, ids=str)
def test_a_batch_of_lists(server: CoordinatorProcess, params: dict[str, Any]) -> None:
    post(server, [request("job.create", job(1, id), id) for id in range(1, SMALL + 1)])
    for id in range(SMALL + 1, SMALL + 1 + LARGE):
        create(server, 1, id, RECORD)
    [store] = server.children()

    with growth(server.process.pid) as grown, growth(store) as stored:
        replies = post(server, batch_of("job.list", {"context_id": 1, **params}, 200))

    assert {reply.get("error", {}).get("code") for reply in replies} <= {None, -32030}
    assert "result" in replies[0]
    assert max(*grown, *stored) < MOST


def test_messages_with_large_results_are_loaded_without_all_of_them(server: CoordinatorProcess) -> None:
    runner = {"id": 3, "pubkey": "", "address": "::1", "topic": "t", "local": True}
    post(server, request("runner.create", {"context_id": 1, "runner": runner}, 1))
    message = {
        "id": 4,
        "caller_id": 7,
        "context_id": 1,
        "message": "",
        "message_type": "Python",
        "message_format_type": "Text",
        "timeout": 0,
        "timeout_ack": 0,
        "timeout_result": 0,
        "job": [job(1, id)["job"] for id in range(1, 41)],
    }
    assert "result" in post(server, request("message.create", {"context_id": 1, "message": message}, 1))
    assert "result" in post(server, request("message.send", {"context_id": 1, "caller_id": 7, "id": 4}, 1))
    take = {"context_id": 1, "runner_id": 3, "script_types": ["Python"], "count": 40}
    for assignment in post(server, request("job.take", take, 1))["result"]["jobs"]:
        attempt = {**job_ids(1, assignment["job"]["id"]), "token": assignment["token"]}
        for _ in range(2):
            post(server, request("job.log", {**attempt, "lines": ["y" * 100_000]}, 1))
        result = {"result": {"out": "x" * 500_000}}
        assert "result" in post(server, request("job.finish", {**attempt, **result}, 1))

    loaded = post(server, request("message.load", {"context_id": 1, "caller_id": 7, "id": 4}, 1))["result"]

    assert loaded["status"] == "Processed"
    assert [one["id"] for one in loaded["job"]] == [*range(1, 41)]
    assert {one["status"] for one in loaded["job"]} == {"Finished"}
    whole = [one for one in loaded["job"] if one["result"].get("out")]
    assert 0 < len(whole) < 40
    assert {json.dumps(one["result"]) for one in loaded["job"] if one not in whole} == {'{"$ref": "job.load"}'}
    assert "earlier lines are left out" in loaded["logs"][0]
    assert len(json.dumps(loaded)) < 12 * MIB


def test_the_embedded_store_has_limits_of_memory(tmp_path: Path) -> None:
    """Past its memory it refuses what needs more, says so, and goes on with what does not."""
    memory = 64 * MIB
    with coordinator("--data-dir", str(tmp_path), "--fsync", "everysec", "--store-memory", str(memory)) as server:
        options = options_of(tmp_path)
        assert options["maxmemory"] == str(memory)
        assert options["maxmemory-policy"] == "noeviction"
        assert 0 < int(options["client-query-buffer-limit"]) < 1024 * MIB
        normal, hard, *_ = options["client-output-buffer-limit"].split()
        assert normal == "normal"
        assert 0 < int(hard) < 1024 * MIB

        answers = [post(server, request("job.create", job(1, id, "x" * RECORD), id)) for id in range(100)]

        refused = [answer["error"] for answer in answers if "error" in answer]
        assert {error["code"] for error in refused} == {-32010}
        assert "OOM" in refused[0]["data"]["detail"]
        assert len(answers) - len(refused) < 100
        assert post(server, request("job.load", job_ids(1, 0), 1))["result"]["id"] == 0
        assert post(server, request("job.list", {"context_id": 1, "limit": 1}, 1))["result"]["items"][0]["id"] == 0


def test_without_a_setting_the_store_may_use_a_part_of_the_machine(server: CoordinatorProcess, tmp_path: Path) -> None:
    assert 0 < int(options_of(tmp_path)["maxmemory"]) <= memory_limit() // 2


def options_of(data_dir: Path) -> dict[str, str]:
    """What the embedded Valkey has in force."""
    with redis.Redis(unix_socket_path=str(data_dir / "valkey.sock"), decode_responses=True) as client:
        found: Any = client.config_get("*")
        options: dict[str, str] = found
        return options
