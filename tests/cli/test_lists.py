"""`flow list`, `job list`, `job attempts`, `context stats`: what is asked for and what is shown, at one coordinator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.clients import connected
from tests.support.commands import herocoordinator
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.streaming import job

pytestmark = pytest.mark.slow

CONTEXT = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    with coordinator("--data-dir", str(tmp_path_factory.mktemp("data"))) as server, connected(server, "http") as client:
        of = {"context_id": CONTEXT}
        runner = {"id": 3, "pubkey": "", "address": "::1", "topic": "runner3", "local": True}
        client.result("runner.create", {**of, "runner": runner})
        for id in (1, 2, 3):
            spec = {**job(CONTEXT, 10 + id)["job"], "name": f"load {id}", "tags": ["even" if id == 2 else "odd"]}
            flow: dict[str, Any] = {
                "id": id,
                "caller_id": 7,
                **of,
                "jobs": [10 + id],
                "env_vars": {},
                "name": f"night {id}",
            }
            client.result("flow.submit", {**of, "flow": flow, "jobs": [spec]})
        for at in range(2):
            params = {**of, "runner_id": 3, "script_types": ["Python"]}
            (taken,) = client.result("job.take", params)["jobs"]
            report = {**of, "caller_id": 7, "id": taken["job"]["id"], "token": taken["token"]}
            if at == 0:
                client.result("job.finish", report)
            else:
                client.result("job.fail", {**report, "error": "no \x1b[2Jdisk", "retry": False})
        yield server


def run(server: CoordinatorProcess, *arguments: str) -> str:
    done = herocoordinator(*arguments, env={"HEROCOORDINATOR_URL": server.ws, "HEROCOORDINATOR_CONTEXT": str(CONTEXT)})
    assert done.returncode == 0, done.stderr
    return done.stdout


def firsts(output: str, column: int = 0) -> list[str]:
    return [line.split()[column] for line in output.splitlines()[1:]]


def test_flows_and_jobs_are_found_by_what_is_asked_for(server: CoordinatorProcess) -> None:
    assert firsts(run(server, "flow", "list", "--sort", "id")) == ["3", "2", "1"]
    assert firsts(run(server, "flow", "list", "--status", "Error", "--status", "Finished", "--sort", "ended")) == [
        "2",
        "1",
    ]
    assert firsts(run(server, "flow", "list", "--name", "night 2", "--caller", "7", "--since", "1h")) == ["2"]
    assert firsts(run(server, "flow", "list", "--until", "1h")) == []
    assert firsts(run(server, "job", "list", "--tag", "even"), 1) == ["12"]
    assert firsts(run(server, "job", "list", "--runner", "3", "--sort", "id", "--reverse"), 1) == ["11", "12"]
    assert "load 3" in run(server, "job", "list", "--limit", "1", "--sort", "id")


def test_what_is_no_time_is_said(server: CoordinatorProcess) -> None:
    done = herocoordinator("flow", "list", "--since", "yesterday")
    assert done.returncode == 2
    assert "'yesterday' is no time" in done.stderr


def test_attempts_and_counts_are_shown(server: CoordinatorProcess) -> None:
    shown = run(server, "job", "attempts", "12", "--caller", "7")
    assert shown.startswith("attempt 1  runner 3  ")
    assert "failed after" in shown
    assert shown.endswith(": no \\x1b[2Jdisk\n")
    assert run(server, "job", "attempts", "13", "--caller", "7") == "no runner has had it yet\n"

    flows, jobs, runners, _, python = run(server, "context", "stats", str(CONTEXT)).splitlines()
    assert sorted(flows.removeprefix("flows: ").split(", ")) == ["1 Error", "1 Finished", "1 Started"]
    assert sorted(jobs.removeprefix("jobs: ").split(", ")) == ["1 Dispatched", "1 Error", "1 Finished"]
    assert runners.endswith("0 busy")
    assert python.split()[:3] == ["Python", "3", "1"]
