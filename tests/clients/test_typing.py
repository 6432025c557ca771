"""The types of the Python clients, as pyright sees them in a user's code; mypy looks at that in `make lint`."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.support import node
from tests.support.typescript import run_npm

ROOT = Path(__file__).parents[2]
USER = Path(__file__).parent / "typed.py"
PYRIGHT = "pyright@1.1.414"


@pytest.mark.slow
def test_pyright_finds_the_mistakes_and_nothing_else(tmp_path: Path) -> None:
    if not node.is_there():
        warnings.warn("Node or npm is missing: pyright does NOT look at the Python clients", stacklevel=1)
        pytest.skip("Node or npm is missing")
    (tmp_path / "package.json").write_text("{}")
    run_npm("install", "--no-package-lock", "--silent", "--no-fund", "--no-audit", PYRIGHT, cwd=tmp_path)
    (tmp_path / "typed.py").write_text(USER.read_text())
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)], "enableTypeIgnoreComments": False}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))

    done = subprocess.run(
        ["node", "node_modules/pyright/index.js", "--pythonpath", sys.executable, "--outputjson", "typed.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    found = {diagnostic["range"]["start"]["line"] for diagnostic in json.loads(done.stdout)["generalDiagnostics"]}
    mistakes = {number for number, line in enumerate(USER.read_text().splitlines()) if "# type: ignore" in line}
    assert found == mistakes
