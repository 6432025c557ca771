"""`make demo`, and how it ends."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.commands import herocoordinator, herocoordinator_started, read_until

pytestmark = pytest.mark.slow

DIAMOND = Path(__file__).parents[2] / "examples" / "diamond.toml"


def test_the_demo_runs_its_flow_leaves_nothing_and_exits_with_0(tmp_path: Path) -> None:
    done = herocoordinator("demo", str(DIAMOND), env={"TMPDIR": str(tmp_path)})

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "report:\n  warmest_month = 8\n" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_demo_whose_flow_fails_exits_with_1(tmp_path: Path) -> None:
    path = tmp_path / "flow.toml"
    path.write_text("[jobs.a]\nscript = 'exit(3)'\n")

    done = herocoordinator("demo", str(path))

    assert done.returncode == 1
    assert "a: exit status 3" in done.stdout


def test_ctrl_c_ends_a_demo_at_once(tmp_path: Path) -> None:
    path = tmp_path / "flow.toml"
    path.write_text("[jobs.a]\nscript = '''\nimport time\nprint('here')\ntime.sleep(600)\n'''\n")
    process = herocoordinator_started("demo", str(path))
    read_until(process, "here")

    process.send_signal(signal.SIGINT)

    process.communicate(timeout=30)
    assert process.returncode == 130
