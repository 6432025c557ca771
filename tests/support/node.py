"""Node and the clients from npm that tests use: installed once beside their scripts, and run."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

__all__ = ["install", "is_there", "play"]

SCRIPTS: Final = Path(__file__).parents[1] / "interop" / "node"
_INSTALL_TIMEOUT: Final = 150.0  # seconds
_SCRIPT_TIMEOUT: Final = 90.0
_MAX_OUTPUT: Final = 2000  # characters of what a script complained that a failure shows


def is_there() -> bool:
    """Whether Node and npm are on this machine."""
    return bool(shutil.which("node") and shutil.which("npm"))


def install() -> None:
    """Install what package.json names, unless that is done; of several processes that want to, one does it.

    Raises subprocess.CalledProcessError or TimeoutExpired if npm cannot.
    """
    wanted = (SCRIPTS / "package.json").read_text()
    stamp = SCRIPTS / "node_modules" / ".installed"
    stamp.parent.mkdir(exist_ok=True)
    with (SCRIPTS / "node_modules" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        command = ["npm", "install", "--no-package-lock", "--silent", "--no-fund", "--no-audit"]
        subprocess.run(command, cwd=SCRIPTS, check=True, timeout=_INSTALL_TIMEOUT)
        stamp.write_text(wanted)


def play(script: str, scenario: str, **given: Any) -> Any:
    """What the client of `script` saw in this scenario. Raises AssertionError if the scenario fails."""
    done = subprocess.run(
        ["node", f"{script}.mjs", scenario, json.dumps(given)],
        cwd=SCRIPTS,
        capture_output=True,
        text=True,
        timeout=_SCRIPT_TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"{script} {scenario} ended with {done.returncode}: {done.stderr[:_MAX_OUTPUT]}"
    return json.loads(done.stdout)
