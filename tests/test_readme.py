"""The examples of the README and of the documents do what these show."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.commands import herocoordinator
from tests.support.runner import runner
from tests.support.server import CoordinatorProcess, coordinator, limit_open_files

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TUTORIAL, PYTHON, LANGUAGES, TLS, WORKERS = (
    (ROOT / "docs" / f"{name}.md").read_text()
    for name in ("tutorial", "howto/python", "howto/languages", "operations/tls", "operations/workers")
)
CURL = re.compile(r"^\$ curl [^']*'content-type: application/json' -d '(.*?)'\n(.*?)\n```", re.S | re.M)
FLOW_FILE = re.compile(r"```toml\n(.*?)```\n(?:\n.*?\n)?\n```console\n\$ .*?flow run sums.toml\n(.*?)```", re.S)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    with coordinator("--data-dir", str(tmp_path_factory.mktemp("readme"))) as server:
        yield server


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in ("created_at", "updated_at")}
    return [without_times(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("text", "number"), [(README, 2), (TUTORIAL, 4), (LANGUAGES, 1)], ids=["README", "tutorial", "languages"]
)
def test_each_curl_answers_as_shown(fresh: CoordinatorProcess, text: str, number: int) -> None:
    examples = CURL.findall(text)
    assert len(examples) == number

    for body, shown in examples:
        answer = httpx.post(fresh.http, content=body, headers={"content-type": "application/json"}).json()

        assert without_times(answer) == without_times(json.loads(shown))


@pytest.fixture(scope="module")
def with_runner(fresh: CoordinatorProcess) -> Iterator[CoordinatorProcess]:
    with runner(fresh.ws, 1):
        yield fresh


def without_measures(text: str) -> str:
    """Without durations and random ids."""
    return re.sub(r"\b\d+\.\d s\b|\bflow \d+", "…", text)


@pytest.mark.parametrize("text", [README, TUTORIAL], ids=["README", "tutorial"])
def test_the_flow_file_runs_as_shown(with_runner: CoordinatorProcess, tmp_path: Path, text: str) -> None:
    ((file, shown),) = FLOW_FILE.findall(text)
    (tmp_path / "sums.toml").write_text(file)

    done = herocoordinator("flow", "run", "--url", with_runner.ws, str(tmp_path / "sums.toml"))

    assert done.returncode == 0, done.stderr
    assert without_measures(done.stdout) == without_measures(shown)


def test_the_client_example_runs(with_runner: CoordinatorProcess) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PYTHON, re.S)

    done = subprocess.run(
        [sys.executable, "-c", code.replace("ws://127.0.0.1:9653", with_runner.ws)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "log ['42']" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["stdout"] == "42\n"


def test_a_setting_beyond_the_limit_of_open_files_is_refused_as_shown(tmp_path: Path) -> None:
    ((limit, arguments, shown),) = re.findall(r"^\$ ulimit -n (\d+); \S+ (.*)\n(.*)\n```", WORKERS, re.M)

    done = subprocess.run(
        [sys.executable, "-m", "coordinator", *arguments.split(), "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=partial(limit_open_files, int(limit)),
    )

    assert (done.returncode, done.stderr.strip()) == (2, shown)


def test_the_tls_example_runs_as_shown(tmp_path: Path) -> None:
    (shown,) = re.findall(r"\$ \.venv/bin/herocoordinator cert\n(.*?)```", TLS, re.S)

    made = subprocess.run(
        [sys.executable, "-m", "coordinator", "cert"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert made.stdout == shown, made.stderr

    (serving,) = re.findall(r"herocoordinator serve (--tls.*)", shown)
    arguments = [str(tmp_path / word) if word.endswith(".pem") else word for word in serving.split()]
    with coordinator("--data-dir", str(tmp_path / "data"), *arguments) as server:
        trusting = ssl.create_default_context(cafile=tmp_path / "tls" / "ca.pem")
        for host in ("localhost", "127.0.0.1"):
            url = f"https://{host}:{server.http.rpartition(':')[2]}/healthz"
            assert httpx.get(url, verify=trusting).json() == {"status": "ok"}


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200
