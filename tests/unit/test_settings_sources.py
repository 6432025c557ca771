"""Settings from the command line, the environment and a file: which one counts, and what is said of what is wrong."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from coordinator.cli.config import config
from coordinator.settings import RELOADED, Settings
from tests.support.tls import Files


def check(*arguments: str, env: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(config, ["check", *arguments], env=dict(env or {}))


def shown(*arguments: str, env: Mapping[str, str] | None = None) -> dict[str, tuple[Any, str]]:
    """By key its value and where it is from."""
    done = check("--json", *arguments, env=env)
    assert done.exit_code == 0, done.output
    return {key: (item["value"], item["from"]) for key, item in json.loads(done.stdout).items()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "coordinator.toml"


def fault(file: Path, text: str | bytes) -> str:
    """What is said of a file, on standard error, in lines."""
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    done = check("--config", str(file))
    assert done.exit_code == 2, done.output
    assert not done.stdout
    return done.stderr


def test_the_command_line_counts_before_the_environment_before_the_file_before_the_default(file: Path) -> None:
    file.write_text("workers = 5\nmax-in-flight = 5\nmailbox-length = 5")
    env = {"HEROCOORDINATOR_WORKERS": "4", "HEROCOORDINATOR_MAX_IN_FLIGHT": "4"}

    found = shown("--config", str(file), "--workers", "3", env=env)

    assert found["workers"] == (3, "command line")
    assert found["max-in-flight"] == (4, "environment")
    assert found["mailbox-length"] == (5, str(file))
    assert found["max-batch-length"] == (1000, "default")


def test_the_file_may_be_named_by_a_variable(file: Path) -> None:
    file.write_text("workers = 5")

    assert shown(env={"HEROCOORDINATOR_CONFIG": str(file)})["workers"] == (5, str(file))


def test_what_is_printed_is_a_file_with_the_same_settings(file: Path) -> None:
    given = ("--workers", "3", "--allowed-hosts", "a.example,b.example", "--drain", "1.5", "--log-format", "json")
    printed = check(*given)
    assert printed.exit_code == 0, printed.output

    file.write_text(printed.stdout)

    values = {key: value for key, (value, _) in shown(*given).items()}
    again = shown("--config", str(file))
    assert {key: value for key, (value, _) in again.items()} == values
    assert {origin for value, origin in again.values() if value is not None} == {str(file)}
    assert len(tomllib.loads(printed.stdout)) > len(Settings.model_fields) // 2


@pytest.mark.parametrize(
    ("text", "explanation"),
    [
        ("api-http-prot = 1", "api-http-prot: there is no such setting; did you mean api-http-port?"),
        ("ALLOWED_HOST = 1", "ALLOWED_HOST: there is no such setting; did you mean allowed-hosts?"),
        ("zzz = 1", "zzz: there is no such setting; `herocoordinator serve --help` lists them"),
        ("[serve]\nworkers = 1", "serve: settings stand at the top of the file, not in a table"),
        ("workers = '2'", "workers: must be a whole number, and is a text in quotes"),
        ("workers = 2.0", "workers: must be a whole number, and is a number"),
        ("workers = true", "workers: must be a whole number, and is true or false"),
        ("workers = [2]", "workers: must be a whole number, and is a list"),
        ("workers = 2026-11-27", "workers: must be a whole number, and is a date or a time"),
        ("store-memory = '1'", "store-memory: must be a whole number, and is a text in quotes"),
        ("drain = '1'", "drain: must be a number, and is a text in quotes"),
        ("drain = false", "drain: must be a number, and is true or false"),
        ("data-dir = 1", "data-dir: must be a text in quotes, and is a whole number"),
        ("tls-cert = ['a']", "tls-cert: must be a text in quotes, and is a list"),
        ("auth.keys = 1", "auth: must be a text in quotes, and is a table"),
        ("allowed-hosts = 1", "allowed-hosts: must be a list of texts, and is a whole number"),
        ("allowed-hosts = ['a', 1]", "allowed-hosts: must be a list of texts, and is a list"),
        ("workers = 0", "workers: Input should be greater than 0"),
        ("api-http-port = 70000", "api-http-port: Input should be less than or equal to 65535"),
        ("drain = inf", "drain: Input should be a finite number"),
        ("log-level = 'loud'", "log-level: Input should be 'debug', 'info', 'warning' or 'error'"),
        ("data-dir = ' '", "data-dir: is empty; leave it out for the default"),
        ("allowed-hosts = 'a.example, b:1'", "allowed-hosts: 'b:1' is no host"),
        ("workers = 1\nmax-in-flight = 1\nmax_in_flight = 2", "max_in_flight: it is there twice"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_file_and_key(file: Path, text: str, explanation: str) -> None:
    said = fault(file, text)

    assert said.startswith(f"herocoordinator: {file}: {explanation}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "explanation"),
    [
        (b"workers = ", "is no TOML: "),
        (b"workers = 1\nworkers = 2", "is no TOML: "),
        (b"a = " + b"[" * 5000, "is no TOML"),
        (b'data-dir = "\xff"', "is no UTF-8"),
        (b"#" * 1024 * 1024 + b"\n", "is larger than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(file: Path, content: bytes, explanation: str) -> None:
    said = fault(file, content)

    assert f"--config: {file} {explanation}" in said
    assert said.count("\n") == 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = check("--config", str(tmp_path / "none.toml"))

    assert (done.exit_code, done.stderr) == (
        2,
        f"herocoordinator: --config: cannot read {tmp_path / 'none.toml'}: no such file or directory\n",
    )


def test_everything_that_is_wrong_is_said_at_once(file: Path) -> None:
    assert fault(file, "a = 1\nworkers = 'x'\ndrain = 'x'").count("\n") == 3


def test_a_byte_order_mark_is_skipped(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfworkers = 2")

    assert shown("--config", str(file))["workers"] == (2, str(file))


@pytest.mark.parametrize("elsewhere", [("--redis-addr", "h:1"), ("--redis-url", "redis://h:1")])
def test_a_store_that_is_given_takes_the_place_of_the_file_s(file: Path, elsewhere: tuple[str, str]) -> None:
    file.write_text("redis-url = 'redis://of-the-file'\nworkers = 2")

    found = shown("--config", str(file), *elsewhere)

    assert found[elsewhere[0].removeprefix("--")] == (elsewhere[1], "command line")
    assert "of-the-file" not in str(found)
    assert found["workers"] == (2, str(file))


def test_a_file_that_names_two_stores_is_refused(file: Path) -> None:
    assert "not both" in fault(file, "redis-url = 'redis://h'\nredis-addr = 'h:1'")


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize(
    "url",
    ["redis://:geheim%s@h", "redis://user:geheim%s@h", "redis+sentinel://:geheim%s@h/s?sentinel_password=geheim%s"],
)
@pytest.mark.parametrize("place", ["file", "environment", "own file"])
def test_no_password_is_shown(file: Path, url: str, form: tuple[str, ...], place: str) -> None:
    url = url.replace("%s", "wort")
    (file.parent / "url").write_text(url)
    file.write_text(
        {"file": f"redis-url = '{url}'", "own file": f"redis-url-file = '{file.parent}/url'"}.get(place, "")
    )
    env = {"HEROCOORDINATOR_REDIS_URL": url} if place == "environment" else {}

    done = check("--config", str(file), *form, env=env)

    assert done.exit_code == 0, done.output
    assert "redis-url" in done.output
    assert "geheim" not in done.output


def test_a_certificate_that_cannot_be_used_is_an_error_of_its_own(tmp_path: Path, file: Path) -> None:
    files = Files(tmp_path)
    file.write_text(f"tls-cert = '{files.certificate}'\ntls-key = '{files.key}'")
    assert check("--config", str(file)).exit_code == 0

    files.key.write_text("no key")

    done = check("--config", str(file))
    assert done.exit_code == 1
    assert "--tls-key" in done.stderr
    assert "tls-cert = " in done.stdout


def test_what_sighup_changes_are_settings() -> None:
    assert Settings.model_fields.keys() >= RELOADED
