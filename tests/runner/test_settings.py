"""The runner's settings: what can be, and what the coordinator is told."""

from __future__ import annotations

import ipaddress
import os
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from coordinator.cli.options import validated
from coordinator.runner.execute import PYTHON, Interpreter
from coordinator.runner.settings import RunnerSettings


def settings(**given: Any) -> RunnerSettings:
    return RunnerSettings(**{"context": (1,), **given})


def test_python_runs_on_ours_by_default() -> None:
    assert settings().interpreters == {"Python": PYTHON}
    assert PYTHON.argv == (sys.executable,)


def test_other_types_run_with_the_commands_given() -> None:
    types = ("Sal=/bin/sh -e 'a b'", "V=env sh", "Python=/usr/bin/env python3")

    interpreters = settings(type=types).interpreters

    assert interpreters["Sal"] == Interpreter(("/bin/sh", "-e", "a b"))
    assert os.path.isabs(interpreters["V"].argv[0])
    assert interpreters["Python"] == Interpreter(("/usr/bin/env", "python3"))


def test_python_can_be_left_to_others() -> None:
    assert list(settings(type=("Sal=/bin/sh", "Python=")).interpreters) == ["Sal"]


@pytest.mark.parametrize(
    "given",
    [
        {"context": ()},
        {"context": (-1,)},
        {"context": (2**32,)},
        {"id": -1},
        {"url": "ftp://127.0.0.1:9653"},
        {"url": "ws://me:secret@127.0.0.1:9653"},
        {"ca": "/does/not/exist.pem"},
        {"ca": __file__},
        {"url": "ws://"},
        {"url": "ws://localhost:70000"},
        {"url": f"ws://{'x' * 64}:1"},
        {"capacity": 0},
        {"lease": 0.01},
        {"kill_grace": float("inf")},
        {"address": "here"},
        {"type": ("Sal",)},
        {"type": ("Sal=",)},
        {"type": ("Ruby=ruby",)},
        {"type": ("Python=",)},
        {"type": ("Sal=/does/not/exist",)},
        {"type": ("Sal='unclosed",)},
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**given)


def test_a_context_given_twice_counts_once() -> None:
    assert settings(context=(2, 1, 2), shared=True).context == (2, 1)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("ws://127.0.0.1:9653", True),
        ("ws://127.8.8.8", True),
        ("ws://[::1]:9653", True),
        ("ws://localhost:9653", True),
        ("http://127.0.0.1:9652", True),
        ("localhost", True),
        ("ws://192.0.2.1:9653", False),
        ("wss://coordinator.example", False),
    ],
)
def test_it_is_local_if_the_coordinator_is_on_the_loopback(url: str, local: bool) -> None:
    assert settings(url=url).is_local is local


def test_its_address_is_the_one_that_reaches_the_coordinator() -> None:
    assert settings(url="ws://127.0.0.1:1").own_address() == "127.0.0.1"
    assert ipaddress.ip_address(settings(url="ws://localhost:1").own_address()).is_loopback
    assert settings(address="192.0.2.7").own_address() == "192.0.2.7"


def test_a_context_that_is_wrong_is_one_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        validated(RunnerSettings, {"context": (-1,)})

    assert capsys.readouterr().err.splitlines() == [
        "herocoordinator: --context: Input should be greater than or equal to 0"
    ]
