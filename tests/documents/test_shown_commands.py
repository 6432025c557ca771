"""The commands that the documents show do something on a coordinator with what the documents speak of."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from coordinator.cli import main
from tests.access.callers import Caller, caller
from tests.dashboard.looking import flow_of, job_of
from tests.documents.test_words import ROOT, command_lines
from tests.support.server import CoordinatorProcess, coordinator

CONTEXT: Final = 1
NAMES: Final = (
    *("docs/tutorial.md", "docs/howto/flows.md", "docs/howto/failures.md", "docs/howto/prerequisites.md"),
    *("docs/howto/runners.md", "docs/operations/contexts.md"),
)
ELSEWHERE: Final = {"serve", "runner", "key", "export", "import", "doctor", "backup", "restore"}
"""Commands that go on, or work on files: other tests run those."""
WHILE_IT_RUNS: Final = ("flow pause", "flow resume", "flow cancel", "job cancel")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CoordinatorProcess, Caller]]:
    with (
        coordinator("--data-dir", str(tmp_path_factory.mktemp("shown")), "--workers", "1") as server,
        caller(server, "http") as api,
    ):
        yield server, api


def shown_in(text: str) -> list[list[str]]:
    """Each command that can be run as it stands, in blocks and between the lines."""
    inline = [shlex.split(words) for words in re.findall(r"`(?:\.venv/bin/)?herocoordinator ([^`…]+)`", text)]
    found = [words for words in (*command_lines(text), *inline) if words[0] not in ELSEWHERE and "…" not in str(words)]
    return [words for words in found if not any(re.fullmatch(r"[A-Z]+|.*\.toml", word) for word in words)]


def prepare(api: Caller, *, runs: bool) -> None:
    """Context 1 with runner 3 and flow 12, of which job 3 waits for an approval; it was cancelled unless it runs."""
    api.result("context.delete", {"context_id": CONTEXT})
    api.result("context.create", {"context": {"id": CONTEXT, "admins": [7], "readers": [], "executors": []}})
    runner = {"id": 3, "pubkey": "", "address": "::1", "topic": "runner3", "local": True}
    api.result("runner.create", {"context_id": CONTEXT, "runner": runner})
    jobs = [job_of(3, CONTEXT, prerequisites=["approved"]), job_of(4, CONTEXT, depends=[3])]
    for id, flow_jobs in ((12, jobs), (1, [job_of(1, CONTEXT)])):
        flow = flow_of(id, CONTEXT, [job["id"] for job in flow_jobs])
        api.result("flow.submit", {"context_id": CONTEXT, "flow": flow, "jobs": flow_jobs})
    if not runs:
        api.result("flow.cancel", {"context_id": CONTEXT, "id": 12})


@pytest.mark.parametrize("name", NAMES)
def test_what_it_shows_can_be_done(
    served: tuple[CoordinatorProcess, Caller], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    server, api = served
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEROCOORDINATOR_URL", server.http)
    (tmp_path / "report.py").write_text("print('report')")
    commands = shown_in((ROOT / name).read_text())
    assert commands

    for words in commands:
        prepare(api, runs=" ".join(words).startswith(WHILE_IT_RUNS))
        given = [word for word in words if word not in ("--follow", "--url", "ws://127.0.0.1:9653")]
        done = CliRunner().invoke(main, [*given, *(["--yes"] if given[1] == "delete" else [])])

        assert done.exit_code == 0, (words, done.output)
