"""The files of the dashboard that are committed are what its sources are built to."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Final

import pytest

from coordinator import dashboard
from tests.support import node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SOURCES: Final = Path(__file__).parents[2] / "dashboard"
BUILT: Final = Path(dashboard.__file__).parent / "static"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, beside what they are built with. Without Node, npm or what npm gets, the tests are skipped."""
    if not node.is_there():
        warnings.warn("Node or npm is missing: NO test compares the dashboard's files with its sources", stacklevel=1)
        pytest.skip("Node or npm is missing")
    there = tmp_path_factory.mktemp("build") / "dashboard"
    shutil.copytree(SOURCES, there, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "install", "--no-package-lock", "--silent", "--no-fund", "--no-audit"]
    try:
        subprocess.run(command, cwd=there, check=True, timeout=240, capture_output=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        warnings.warn(
            f"npm cannot install: NO test compares the dashboard's files with its sources: {error}", stacklevel=1
        )
        pytest.skip("npm cannot install what the dashboard is built with")
    return there


def contents(directory: Path) -> dict[str, bytes]:
    """All files but those that were compressed, which depend on the compressor; another test compares them."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.suffix != ".gz")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_the_committed_files_are_what_the_sources_are_built_to(copy: Path, tmp_path: Path) -> None:
    subprocess.run(["node", "build.mjs", str(tmp_path / "static")], cwd=copy, check=True, timeout=120)

    built, committed = contents(tmp_path / "static"), contents(BUILT)
    assert built.keys() == committed.keys(), "build them anew: make dashboard"
    assert built == committed


def test_its_types_are_right(copy: Path) -> None:
    checked = subprocess.run(
        ["npm", "run", "--silent", "check"], cwd=copy, capture_output=True, text=True, timeout=240, check=False
    )

    assert checked.returncode == 0, checked.stdout
