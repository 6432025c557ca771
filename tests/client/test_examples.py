"""The examples in the documentation run."""

from __future__ import annotations

import subprocess
import sys

from coordinator import client
from tests.support.server import CoordinatorProcess


def test_the_example_of_the_client_runs(server: CoordinatorProcess) -> None:
    assert client.__doc__
    (code,) = [block.partition("```")[0] for block in client.__doc__.split("```python\n")[1:]]
    assert "ws://127.0.0.1:9653" in code

    run = subprocess.run(
        [sys.executable, "-c", code.replace("ws://127.0.0.1:9653", server.ws)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (run.returncode, run.stderr) == (0, "")
    job, error = run.stdout.splitlines()
    assert "status='Dispatched'" in job
    assert error == "Not Found (-32001): no job with context_id 1, caller_id 7, id 2"
