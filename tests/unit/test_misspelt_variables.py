"""Variables of the environment that are nearly the name of a setting."""

from __future__ import annotations

import pytest

from coordinator import ENVIRONMENT_PREFIX
from coordinator.cli import exit_codes
from coordinator.cli.options import misspelt_variables
from coordinator.runner.settings import ENVIRONMENT_PREFIX as RUNNER_PREFIX
from coordinator.runner.settings import RunnerSettings
from coordinator.settings import Settings


def test_they_are_found_with_what_they_may_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEROCOORDINATOR_WORKRES", "2")
    monkeypatch.setenv("HEROCOORDINATOR_DATADIR", "/srv")
    monkeypatch.setenv("HEROCOORDINATOR_RUNNER_CAPACTY", "8")

    assert misspelt_variables(Settings, ENVIRONMENT_PREFIX) == [
        ("HEROCOORDINATOR_DATADIR", "HEROCOORDINATOR_DATA_DIR"),
        ("HEROCOORDINATOR_WORKRES", "HEROCOORDINATOR_WORKERS"),
    ]
    assert misspelt_variables(RunnerSettings, RUNNER_PREFIX) == [
        ("HEROCOORDINATOR_RUNNER_CAPACTY", "HEROCOORDINATOR_RUNNER_CAPACITY")
    ]


def test_what_is_a_name_or_somebody_else_s_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = [f"{ENVIRONMENT_PREFIX}_{name.upper()}" for name in Settings.model_fields]
    runners = [f"{RUNNER_PREFIX}_{name.upper()}" for name in RunnerSettings.model_fields]
    commands = [name for name in vars(exit_codes).values() if str(name).startswith(ENVIRONMENT_PREFIX)]
    kubernetes = ["SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_9652_TCP", "PORT_9652_TCP_ADDR", "PORT_9652_TCP_PORT"]
    others = ["CONFIG", "CONTEXT", "SCALE", "COMPILE", *kubernetes]
    for name in [*ours, *runners, *commands, *(f"{ENVIRONMENT_PREFIX}_{other}" for other in others)]:
        monkeypatch.setenv(name, "x")

    assert misspelt_variables(Settings, ENVIRONMENT_PREFIX) == []
    assert misspelt_variables(RunnerSettings, RUNNER_PREFIX) == []
