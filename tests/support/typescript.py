"""The TypeScript client, built beside its sources, and scripts that use it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any, Final

__all__ = ["CLIENT", "build", "play", "run_npm"]

CLIENT: Final = Path(__file__).parents[2] / "clients" / "typescript"
_BUILD_TIMEOUT: Final = 150.0  # seconds
_SCRIPT_TIMEOUT: Final = 90.0
_MAX_OUTPUT: Final = 4000  # characters of what a script complained that a failure shows


def run_npm(*arguments: str, cwd: Path = CLIENT) -> str:
    """What npm prints; it must succeed."""
    done = subprocess.run(
        ["npm", *arguments], cwd=cwd, capture_output=True, text=True, timeout=_BUILD_TIMEOUT, check=False
    )
    assert done.returncode == 0, f"npm {' '.join(arguments)}: {done.stdout[-_MAX_OUTPUT:]}{done.stderr[-_MAX_OUTPUT:]}"
    return done.stdout


def build() -> None:
    """Install the compiler and compile, unless that is done; of several processes that want to, one does it."""
    modules = CLIENT / "node_modules"
    modules.mkdir(exist_ok=True)
    with (modules / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _once(
            modules / ".installed", [CLIENT / "package.json"], "install", "--no-package-lock", "--silent", "--no-fund"
        )
        sources = [CLIENT / "package.json", CLIENT / "tsconfig.json", *sorted((CLIENT / "src").rglob("*.ts"))]
        _once(modules / ".built", sources, "run", "--silent", "build")


def _once(stamp: Path, sources: list[Path], *command: str) -> None:
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        run_npm(*command)
        stamp.write_text(digest)


def play(scenario: str, **given: Any) -> Any:
    """What the client saw in a scenario of `test/scenarios.mjs`. Raises AssertionError if that fails."""
    done = subprocess.run(
        ["node", "test/scenarios.mjs", scenario, json.dumps(given)],
        cwd=CLIENT,
        capture_output=True,
        text=True,
        timeout=_SCRIPT_TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"{scenario} ended with {done.returncode}: {done.stderr[:_MAX_OUTPUT]}"
    return json.loads(done.stdout)
