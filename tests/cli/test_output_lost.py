"""Commands whose output has nowhere to go."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from coordinator.client import connect
from tests.support.runner import job, submit
from tests.support.server import CoordinatorProcess, free_port


@pytest.mark.parametrize("redirected", [">/dev/full", ">&-", "| true"])
def test_no_command_ends_in_a_traceback(server: CoordinatorProcess, redirected: str) -> None:
    call = f"{sys.executable} -m coordinator call --url {server.ws} context.list '{{}}' {redirected}"
    done = subprocess.run(["bash", "-c", f"{call}"], stderr=subprocess.PIPE, text=True, check=False)

    assert "Traceback" not in done.stderr
    if "full" in redirected:
        assert done.returncode == 1
        assert done.stderr == "herocoordinator: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    "command", ["version", "--version", "--help", "flow list --help", "openrpc", "completion bash"]
)
def test_what_needs_no_coordinator_says_so_in_one_line_too(command: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m coordinator {command} >/dev/full"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (
        1,
        "herocoordinator: the output cannot be written: No space left on device\n",
    )


def test_a_key_that_cannot_be_shown_is_not_said_to_be_unwritten(tmp_path: Path) -> None:
    file = tmp_path / "ada.key"

    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m coordinator key new {file} >/dev/full"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )

    assert file.exists()
    assert done.stderr == "herocoordinator: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 1>&- 2>&-"])
async def test_a_coordinator_and_a_runner_need_no_standard_streams(tmp_path: Path, closed: str) -> None:
    """As some supervisors, and old ways to make a daemon, start them."""
    http, ws = free_port(), free_port()
    start = f"exec {sys.executable} -m coordinator"
    serve = f"{start} serve --data-dir {tmp_path} --api-http-port {http} --api-ws-port {ws} --workers 1 {closed}"
    url = f"ws://127.0.0.1:{ws}"
    processes = [_started(serve), _started(f"{start} runner --context 1 --url {url} {closed}")]
    try:
        with trio.fail_after(90):
            async with connect(url) as client:
                flow = await submit(client, 1, job(1, "print(1)"))
                await flow.ended()
                assert (await flow.results())["1"]["stdout"] == "1\n"
        assert [os.readlink(f"/proc/{process.pid}/fd/2") for process in processes] == ["/dev/null"] * 2
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(60)


def _started(command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["bash", "-c", command])
