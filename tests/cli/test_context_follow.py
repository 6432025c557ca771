"""`herocoordinator context follow`: a line an event, which a terminal only shows, and the way to go on."""

from __future__ import annotations

import signal
from typing import Any

import httpx
import pytest

from tests.support.clients import request
from tests.support.commands import herocoordinator, herocoordinator_started
from tests.support.flows import submission
from tests.support.server import CoordinatorProcess

pytestmark = pytest.mark.slow

CONTEXT = 70_500
HOSTILE = "\x1b[2J\x1b]0;owned\x07\nflow 2 > Finished"


def test_it_prints_a_line_an_event_and_says_how_to_go_on(server: CoordinatorProcess) -> None:
    def call(method: str, **params: Any) -> Any:
        reply = httpx.post(server.http, json=request(method, params, 1), timeout=60, verify=False).json()
        return reply["result"]

    begin = call("context.events", context_id=CONTEXT)["last_event"]
    runner = {"id": 3, "pubkey": "", "address": "127.0.0.1", "topic": HOSTILE, "local": False}
    call("runner.create", context_id=CONTEXT, runner=runner)
    call("flow.submit", **submission(CONTEXT, {1: []}))
    (taken,) = call("job.take", context_id=CONTEXT, runner_id=3, script_types=["Python"])["jobs"]
    report = {"context_id": CONTEXT, "caller_id": 7, "id": 1, "token": taken["token"]}
    call("job.fail", **report, error=HOSTILE, retry=False)

    at = ("context", "follow", str(CONTEXT), "--url", server.ws)
    process = herocoordinator_started(*at, "--after", begin)
    assert process.stdout is not None
    lines = [process.stdout.readline().rstrip("\n") for _ in range(4)]
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr is not None
    said = process.stderr.read()

    assert [line.split("  ", 1)[1].partition(" (")[0].partition(":")[0] for line in lines] == [
        "flow 1 > Started",
        "flow 1 job 1 > Started",
        "flow 1 job 1 > Error",
        "flow 1 > Error",
    ]
    assert "attempt 1, on runner 3" in lines[1]
    assert not any(character in "".join(lines) for character in "\x1b\x07")
    last = call("context.events", context_id=CONTEXT, after=begin)["events"][-1]["event_id"]
    assert f"go on with `herocoordinator context follow {CONTEXT} --after {last} --url {server.ws}`" in said
    refused = herocoordinator(*at, "--after", "nonsense")
    assert refused.returncode == 2
