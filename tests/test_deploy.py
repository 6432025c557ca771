"""What is in `deploy/`, as far as a machine without systemd or containers can tell."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from coordinator.cli.cert import make_certificate
from coordinator.cli.config import config
from coordinator.cli.runner import runner
from coordinator.cli.serve import serve
from tests.support.server import coordinator

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd/herocoordinator.service"
CONTAINERFILE = DEPLOY / "container/Containerfile"


def options_of(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def unit() -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return dict(parser["Service"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    # What it starts has to be there to be verified.
    installed = tmp_path / "herocoordinator.service"
    installed.write_text(UNIT.read_text().replace("/opt/herocoordinator/bin/herocoordinator", "/bin/true"))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(installed)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_calls_the_unit_s_exposure_low() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-600:]


def test_the_unit_hears_of_readiness_and_stops_only_its_main_process() -> None:
    service = unit()

    assert (service["Type"], service["KillMode"]) == ("notify", "mixed")
    assert int(service["WatchdogSec"]) > 10
    assert "HUP" in service["ExecReload"]
    assert {word for word in service["ExecStart"].split() if word.startswith("--")} <= options_of(serve)


def test_the_settings_file_is_one_as_it_is_and_with_all_that_is_commented_out(tmp_path: Path) -> None:
    whole = tmp_path / "whole.toml"
    whole.write_text(re.sub(r"^#(?=\w[\w-]* = )", "", (DEPLOY / "coordinator.toml").read_text(), flags=re.M))
    assert CliRunner().invoke(config, ["check", "--config", str(DEPLOY / "coordinator.toml")]).exit_code == 0

    done = CliRunner().invoke(config, ["check", "--config", str(whole)])

    assert done.exit_code == 1  # the certificate is not there; every setting is one
    assert "--tls-cert: cannot read" in done.stderr
    assert 'auth = "keys"' in done.stdout


def test_the_compose_file_gives_options_that_there_are() -> None:
    compose = yaml.safe_load((DEPLOY / "container/compose.yaml").read_text())

    for name, command in (("coordinator", serve), ("runner", runner)):
        service = compose["services"][name]
        given = service["command"]
        assert given[0] == command.name
        assert {word.partition("=")[0] for word in given if word.startswith("--")} <= options_of(command)
        assert service["cap_drop"] == ["ALL"]
    served = compose["services"]["coordinator"]
    assert "--tls-cert" in served["command"]
    assert {volume.partition(":")[0] for volume in served["volumes"] if not volume.startswith(".")} == {
        *compose["volumes"]
    }
    assert (DEPLOY / "container" / served["build"]["context"] / served["build"]["dockerfile"]).exists()


def test_the_container_file_copies_what_the_wheel_is_built_from() -> None:
    text = CONTAINERFILE.read_text()
    copied = {word for line in re.findall(r"^COPY (?!--)(.*)$", text, re.M) for word in line.split()[:-1]}

    assert copied == {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "coordinator"}
    assert all((ROOT / name).exists() for name in copied)
    variables = {name.lower() for name in re.findall(r"HEROCOORDINATOR_(\w+)=", text)}
    assert {f"--{name.replace('_', '-')}" for name in variables} <= options_of(serve)


@pytest.mark.slow
def test_the_coordinator_of_the_compose_file_starts_and_is_healthy_as_that_says(tmp_path: Path) -> None:
    service = yaml.safe_load((DEPLOY / "container/compose.yaml").read_text())["services"]["coordinator"]
    image = dict(re.findall(r"(HEROCOORDINATOR_\w+)=(\S+)", CONTAINERFILE.read_text()))
    files = make_certificate(("localhost", "coordinator"), 1)
    for name, content in zip(("ca.pem", "cert.pem", "key.pem"), files, strict=True):
        (tmp_path / name).write_bytes(content)
    arguments = [word.replace("/tls/", f"{tmp_path}/") for word in service["command"][1:]]
    environment = {**image, **service["environment"], "HEROCOORDINATOR_DATA_DIR": str(tmp_path / "data")}

    with coordinator(*arguments, env=environment) as server:
        python = service["healthcheck"]["test"][-1]
        port = server.http.rpartition(":")[2]
        checked = subprocess.run(
            [sys.executable, "-c", python.replace("/tls/", f"{tmp_path}/").replace(":9652", f":{port}")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (checked.returncode, checked.stderr) == (0, "")
        assert (tmp_path / "data/operator.token").exists()
        server.process.kill()  # it would drain
