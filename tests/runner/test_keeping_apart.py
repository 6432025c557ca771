"""A real runner: what scripts learn of it and of each other, with sandboxes and without."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from coordinator.client import Client, connect
from coordinator.runner.execute import PYTHON, Executor
from coordinator.runner.fence import Fence
from coordinator.runner.isolate import Isolation, find_bubblewrap
from coordinator.runner.output import Output
from coordinator.runner.spawn import Spawner
from coordinator.runner.warden import _permit
from tests.support.attempts import assignment, run
from tests.support.commands import herocoordinator
from tests.support.isolation import INTERPRETERS, why_not
from tests.support.runner import job, new_context, runner, submit
from tests.support.server import CoordinatorProcess

isolated = pytest.mark.skipif(bool(why_not()), reason=f"no sandboxes here: {why_not()}")

LOOKING = """
import glob, json, os
found = [f"{name}={value}" for name, value in os.environ.items() if "sesame" in value]
for path in glob.glob("/proc/[0-9]*/*"):
    if path.endswith(("/environ", "/cmdline")):
        try:
            if b"ses" + b"ame" in open(path, "rb").read():
                found.append(path + " of " + open(os.path.dirname(path) + "/cmdline").read())
        except OSError:
            pass
print(json.dumps(found))
"""


@pytest.fixture
async def client(server: CoordinatorProcess) -> AsyncIterator[Client]:
    async with connect(server.ws) as connected:
        yield connected


async def answer(client: Client, context: int, script: str) -> Any:
    """What a job prints as JSON."""
    flow = await submit(client, context, job(1, script))
    await flow.ended()
    return json.loads((await flow.results())["1"]["stdout"])


@pytest.mark.parametrize("arguments", [(), pytest.param(("--isolate",), marks=isolated)])
async def test_no_script_sees_the_secrets_that_the_runner_was_started_with(
    server: CoordinatorProcess, client: Client, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    for name in ("HEROCOORDINATOR_KEY", "HEROCOORDINATOR_RUNNER_TOKEN", "HEROCOORDINATOR_REDIS_URL", "DB_PASSWORD"):
        monkeypatch.setenv(name, f"sesame-{name}")
    context = new_context()
    with runner(server.ws, context, arguments=arguments):
        assert await answer(client, context, LOOKING) == []


@isolated
async def test_one_runner_keeps_the_scripts_of_several_contexts_apart(
    server: CoordinatorProcess, client: Client
) -> None:
    contexts = [new_context(), new_context()]
    script = "import json, os, glob; open('/tmp/mine', 'w'); print(json.dumps([os.getuid(), glob.glob('/tmp/*')]))"
    with runner(server.ws, *contexts, arguments=("--isolate", "--disk-limit", "2000000")):
        said = [await answer(client, context, script) for context in contexts]

    # The Python that scripts run on is shown too, wherever it is.
    places = [sorted(place for place in found if not sys.prefix.startswith(f"{place}/")) for _, found in said]
    assert places == [["/tmp/home", "/tmp/mine", "/tmp/result", "/tmp/tmp", "/tmp/work"]] * 2


@pytest.mark.parametrize("contexts", [("1", "2"), ("1", "1", "3")])
def test_several_contexts_need_a_word(contexts: tuple[str, ...]) -> None:
    given = [word for context in contexts for word in ("--context", context)]

    done = herocoordinator("runner", *given, "--url", "ws://127.0.0.1:1")

    assert done.returncode == 2
    assert "give --isolate to keep them apart, --shared if they may, or start a runner for each context" in done.stderr


@pytest.mark.slow
@isolated
async def test_what_is_paused_while_its_sandbox_is_made_does_not_start_until_it_goes_on(spawner: Spawner) -> None:
    isolation = Isolation(find_bubblewrap())
    argv, env = ["/bin/sh", "-c", "echo started"], {"PATH": os.environ["PATH"]}
    for _ in range(5):
        directory = Path(tempfile.mkdtemp(dir=spawner.directory))
        (directory / "result").touch()
        with isolation.user() as user:
            sandbox = isolation.sandbox(directory, user, argv, env, "")
            script = await spawner.start(
                {"argv": argv, "env": env, "cwd": "/", "stdin": os.devnull, "memory": 0, "sandbox": sandbox}
            )
            try:
                await script.pause()
                with trio.move_on_after(0.5):
                    assert await script.stdout.receive_some(100) == b"nothing"
                await script.go_on(60, 1)
                with trio.fail_after(30):
                    assert await script.stdout.receive_some(100) == b"started\n"
                    assert (await script.wait()).status == 0
            finally:
                await script.aclose()


@pytest.mark.slow
@isolated
async def test_a_script_in_a_sandbox_is_paused_while_the_coordinator_is_away(spawner: Spawner) -> None:
    executor = Executor(spawner, INTERPRETERS, isolation=Isolation(find_bubblewrap()))
    output, ended = Output(10_000_000), trio.Event()
    is_away = True
    fence = Fence(1.0, 0.2, lambda: is_away)
    script = "import time\nfor _ in range(40): print('tick', flush=True); time.sleep(0.1)"
    lines = 0

    async def execute() -> None:
        outcome = await executor.execute(assignment(script), output, trio.Event(), fence)
        assert outcome.error is None
        ended.set()

    def count() -> int:
        return sum(len(found) for _, found in output.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(execute)
        with trio.move_on_after(60):
            while True:  # until nothing comes for long
                await trio.sleep(1.5)
                more = count()
                lines += more
                if lines and not more:
                    break
        assert 0 < lines < 40
        is_away = False
        while not ended.is_set():
            fence.renewed(trio.current_time())
            await trio.sleep(0.1)
    assert lines + count() == 40


def test_permissions_are_given_to_a_directory_but_not_through_a_link(tmp_path: Path) -> None:
    elsewhere, inside = tmp_path / "elsewhere", tmp_path / "inside"
    for directory in (elsewhere, inside):
        directory.mkdir(mode=0o500)
    link = tmp_path / "link"
    link.symlink_to(elsewhere)

    for path in (link, inside, tmp_path / "nothing"):
        _permit(str(path))

    assert (os.stat(elsewhere).st_mode & 0o777, os.stat(inside).st_mode & 0o777) == (0o500, 0o700)


async def test_a_script_s_links_lead_the_runner_nowhere(spawner: Spawner, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o500)
    executor = Executor(spawner, {"Python": PYTHON})

    await run(executor, f"import os; os.mkdir('a'); os.symlink({str(kept)!r}, 'a/link'); os.chmod('a', 0)")

    assert kept.stat().st_mode & 0o777 == 0o500
    assert os.listdir(spawner.directory) == []
