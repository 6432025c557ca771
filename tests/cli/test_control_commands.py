"""The commands by which people decide about what runs, against a real coordinator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from coordinator.cli import main
from tests.support.clients import plain_http
from tests.support.flows import chain, submission
from tests.support.records import fresh_id
from tests.support.server import CoordinatorProcess


class Commands:
    """In a context of their own, with flows 1 and 2 of which nothing has run, and a runner."""

    def __init__(self, server: CoordinatorProcess, api: httpx.Client) -> None:
        self.api = api
        self.context = str(fresh_id())
        self._url = server.http
        context = int(self.context)
        self.ask("context.create", context={"id": context, "admins": [], "readers": [], "executors": []})
        runner = {"id": 3, "pubkey": "", "address": "::1", "topic": "runner3", "local": True}
        self.ask("runner.create", context_id=context, runner=runner)
        for flow in (1, 2):
            self.ask("flow.submit", **submission(context, chain(2, flow * 10), flow))

    def ask(self, method: str, **params: object) -> object:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = self.api.post("/", json=call).json()
        assert "result" in reply, reply
        return reply["result"]

    def __call__(self, *words: str, context: bool = True) -> Result:
        where = ("--url", self._url, *(("--context", self.context) if context else ()))
        return CliRunner().invoke(main, [*words, *where])

    def flow(self, *words: str) -> str:
        done = self("flow", *words)
        assert done.exit_code == 0, done.output
        return done.output

    def of_context(self, command: str, *words: str) -> str:
        done = self("context", command, self.context, *words, context=False)
        assert done.exit_code == 0, done.output
        return done.output


@pytest.fixture
def run(server: CoordinatorProcess) -> Iterator[Commands]:
    with plain_http(server) as api:
        yield Commands(server, api)


def test_a_flow_is_paused_and_resumed(run: Commands) -> None:
    assert run.flow("pause", "1") == "flow 1 Started, paused\n"
    assert run.flow("resume", "1") == "flow 1 Started\n"


def test_a_job_is_cancelled(run: Commands) -> None:
    done = run("job", "cancel", "10", "--caller", "7", "--reason", "too dear")

    assert (done.exit_code, done.output) == (0, "job 7/10 Error\n")
    assert run("job", "cancel", "11", "--caller", "7").exit_code == 1


def test_a_flow_is_run_again(run: Commands, tmp_path: Path) -> None:
    run.flow("cancel", "1")
    script = tmp_path / "report.py"
    script.write_text("print('é')")

    assert run.flow("rerun", "1", "--from", "10", "--env", "A=1=2", "--script", f"10={script}") == "flow 1 Started\n"

    job = run.ask("job.load", context_id=int(run.context), caller_id=7, id=10)
    assert isinstance(job, dict)
    assert job["script"] == "print('é')"
    for wrong in (("--env", "A"), ("--script", "x=y"), ("--script", f"10={tmp_path}/none")):
        assert run("flow", "rerun", "1", *wrong).exit_code == 2
    assert run("flow", "rerun", "1").exit_code == 1  # it runs


def test_many_flows_are_cancelled_retried_and_deleted(run: Commands) -> None:
    assert run("flow", "delete-many").exit_code == 2  # nothing says which
    assert run.flow("cancel-many", "--caller", "7", "--dry-run") == "1, 2\n2 flows would be cancelled\n"
    assert run.flow("cancel-many", "--caller", "7", "--reason", "x") == "2 of 2 flows cancelled\n"
    assert run.flow("retry-many", "--status", "Error") == "2 of 2 flows retried\n"
    assert run.flow("delete-many", "--all") == "0 of 0 flows deleted\n"
    run.flow("cancel", "2")
    assert run.flow("delete-many", "--all") == "1 of 1 flow deleted\n"


def test_contexts_are_listed_and_shown(run: Commands) -> None:
    id = int(run.context)
    run.ask("context.create", context={"id": id, "admins": [*range(7, 14)], "readers": [], "executors": [7]})
    run.of_context("pause", "--type", "Sal")

    listed = run("context", "list", "--all", context=False).output.splitlines()
    (row,) = (line for line in listed if line.split()[0] == run.context)
    assert row.endswith(f"  {'7, 8, 9, 10, 11 and 2 more':24}  {'7':24}  -")
    ids = [int(line.split()[0]) for line in listed[1:]]
    assert ids == sorted(ids)
    one = run("context", "list", "--limit", "1", context=False)
    assert one.stdout.splitlines() == listed[:2]
    assert ("--all lists more" in one.stderr) == (len(ids) > 1)

    shown = run.of_context("show").splitlines()
    assert shown[:3] == ["admins: 7, 8, 9, 10, 11, 12, 13", "executors: 7", "readers: none"]
    assert shown[-1] == "paused: Sal"
    nothing = run("context", "show", str(fresh_id()), context=False)
    assert (nothing.exit_code, "no context with id" in nothing.output) == (1, True)


def test_an_event_that_is_none_is_refused_before_anything_is_followed(run: Commands) -> None:
    done = run("context", "follow", run.context, "--after", "bad", context=False)

    assert (done.exit_code, "'bad' is no event's id" in done.output, "go on with" in done.output) == (2, True, False)


def test_a_context_is_paused_its_runner_drained_and_all_of_it_deleted(run: Commands) -> None:
    assert run.of_context("pause", "--type", "Sal") == f"context {run.context}: paused: Sal\n"
    assert run.of_context("pause") == f"context {run.context}: paused: all of it, Sal\n"
    run.of_context("resume", "--type", "Sal")
    assert run.of_context("resume") == f"context {run.context}: paused: nothing\n"
    assert run.of_context("drain", "3") == "runner 3 is drained\n"
    assert '"draining": true' in json.dumps(run.ask("runner.load", context_id=int(run.context), id=3))
    assert run.of_context("undrain", "3") == "runner 3 gets jobs\n"
    assert run("context", "delete", run.context, context=False).exit_code == 1  # nobody has said yes
    assert run.of_context("delete", "--yes") == "8 records deleted\n"
