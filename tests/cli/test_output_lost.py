"""Commands whose output has nowhere to go."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.server import CoordinatorProcess


@pytest.mark.parametrize("redirected", [">/dev/full", ">&-", "| true"])
def test_no_command_ends_in_a_traceback(server: CoordinatorProcess, redirected: str) -> None:
    call = f"{sys.executable} -m coordinator call --url {server.ws} context.list '{{}}' {redirected}"
    done = subprocess.run(["bash", "-c", f"{call}"], stderr=subprocess.PIPE, text=True, check=False)

    assert "Traceback" not in done.stderr
    if "full" in redirected:
        assert done.returncode == 1
        assert done.stderr == "herocoordinator: the output cannot be written: No space left on device\n"
