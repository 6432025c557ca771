"""`herocoordinator doctor`: what it finds, and what it says to do."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from coordinator.cli.doctor import doctor
from tests.support.server import ValkeyProcess, coordinator, free_port, valkey
from tests.support.tls import Files

Found = dict[str, tuple[str, str, str]]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(doctor, [*arguments])


def examined(*arguments: str, status: int) -> Found:
    """By check its state, what was found, and what to do. Of several of one check, the worst."""
    done = run("--json", *arguments)
    assert done.exit_code == status, done.output
    told = json.loads(done.stdout)
    assert (told["problems"] > 0) == (status == 1)
    order = ["ok", "warning", "problem"]
    worst_last = sorted(told["findings"], key=lambda finding: order.index(finding["state"]))
    assert all(finding["do"] for finding in worst_last if finding["state"] != "ok"), worst_last
    return {finding["check"]: (finding["state"], finding["found"], finding["do"]) for finding in worst_last}


def states(found: Found) -> dict[str, str]:
    return {check: state for check, (state, _, _) in found.items()}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data directory of a coordinator; its path is too long for a socket's address."""
    directory = tmp_path_factory.mktemp("doctor") / ("long" * 30)
    with coordinator("--data-dir", str(directory)):
        yield directory


def test_a_running_coordinator_is_well(running: Path) -> None:
    found = examined("--data-dir", str(running), status=0)

    assert {*states(found).values()} == {"ok"}
    assert "runs on this data directory" in found["coordinator"][1]
    assert found["store version"][1].startswith("Valkey ")
    assert {"clock", "data directory", "disk", "eviction", "function library", "memory", "open files"} <= found.keys()


def test_it_changes_nothing_and_stands_in_nobody_s_way(running: Path) -> None:
    def look() -> dict[str, float]:
        return {str(path): path.lstat().st_mtime for path in running.rglob("*")}

    before = look()
    examined("--data-dir", str(running), status=0)
    assert look() == before


def test_a_directory_that_is_not_there_yet_is_made_by_the_coordinator(tmp_path: Path) -> None:
    found = examined("--data-dir", str(tmp_path / "data"), status=0)

    assert "makes it" in found["data directory"][1]
    assert "none runs" in found["coordinator"][1]
    assert "version 9" in found["embedded Valkey"][1]
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_a_data_directory_at_rest(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with coordinator("--data-dir", str(data)):
        pass
    assert examined("--data-dir", str(data), status=0)["append-only files"][0] == "ok"

    manifest = next(data.glob("appendonlydir/*.manifest"))
    manifest.chmod(0o644)
    state, what, do = examined("--data-dir", str(data), status=0)["data directory"]
    assert (state, str(manifest) in what, do.startswith(f"chmod -R go= {data}")) == ("warning", True, True)
    manifest.chmod(0o600)

    kept = manifest.read_bytes()
    manifest.unlink()
    state, what, do = examined("--data-dir", str(data), status=1)["append-only files"]
    assert state == "problem"
    assert "herocoordinator repair" in do
    manifest.write_bytes(kept)

    data.chmod(0o755)
    assert states(examined("--data-dir", str(data), status=0))["data directory"] == "warning"


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    with valkey(
        tmp_path_factory.mktemp("careless"), "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"
    ) as own:
        yield own


def test_a_store_that_forgets_is_a_problem(careless: ValkeyProcess) -> None:
    found = examined("--redis-url", careless.url, status=1)

    assert found["eviction"][0] == "problem"
    assert "noeviction" in found["eviction"][2]
    assert found["persistence"][0] == "problem"
    assert "appendonly yes" in found["persistence"][2]
    assert found["databases"] == (
        "warning",
        "16: contexts 1 to 15",
        "raise `databases` in its configuration file, or run the coordinator with --isolation prefix",
    )
    assert found["function library"][0] == "ok"
    assert careless.client().function_list() == []  # it has loaded nothing


def test_what_is_done_about_it_is_seen(careless: ValkeyProcess) -> None:
    client = careless.client()
    try:
        client.config_set("maxmemory", "0")
        client.config_set("save", "900 1")
        found = states(examined("--redis-url", careless.url, "--isolation", "prefix", status=0))
        assert (found["eviction"], found["persistence"]) == ("warning", "warning")
        assert "databases" not in found

        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("appendonly", "yes")
        found = states(examined("--redis-url", careless.url, "--isolation", "prefix", status=0))
        assert (found["eviction"], found["persistence"]) == ("ok", "ok")

        client.config_set("maxclients", "100")
        assert states(examined("--redis-url", careless.url, status=0))["store's clients"] == "warning"
    finally:
        for name, value in (("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru"), ("appendonly", "no"),
                            ("save", ""), ("maxclients", "10000")):  # fmt: skip
            client.config_set(name, value)


def test_a_replica_a_newer_library_and_a_user_who_may_not_ask_are_found(careless: ValkeyProcess) -> None:
    client = careless.client()
    client.function_load(
        "#!lua name=herocoordinator\n"
        "server.register_function{function_name='hc_version', flags={'no-writes'},\n"
        "    callback=function(keys, args) return {999999, 'digest'} end}\n"
    )
    client.replicaof("127.0.0.1", str(free_port()))
    client.acl_setuser("poor", enabled=True, passwords=["+geheimwort"], commands=["+hello", "+time", "+fcall"])
    try:
        found = examined("--redis-url", careless.url, status=1)
        assert found["role"][0] == "problem"
        assert "newer coordinator" in found["function library"][1]

        poor = f"redis://poor:geheimwort@127.0.0.1:{careless.port}"
        found = examined("--redis-url", poor, "--isolation", "prefix", status=1)
        assert found["store's settings"][0] == "warning"
        client.execute_command("ACL", "SETUSER", "poor", "-fcall")  # type: ignore[no-untyped-call] # redis-py has no types for it
        found = examined("--redis-url", poor, "--isolation", "prefix", status=1)
        assert "cannot be called" in found["function library"][1]
    finally:
        client.replicaof("NO", "ONE")
        client.function_flush()
        client.acl_deluser("poor")


@pytest.mark.parametrize("problem", ["nobody", "password"])
def test_a_store_that_does_not_answer_is_a_problem(careless: ValkeyProcess, problem: str) -> None:
    place = f"127.0.0.1:{free_port()}" if problem == "nobody" else f"nobody:geheimwort@127.0.0.1:{careless.port}"

    done = run("--redis-url", f"redis://{place}")

    assert done.exit_code == 1, done.output
    assert "problem  store: " in done.output
    assert "geheimwort" not in done.output
    assert done.output.splitlines()[-1].startswith("1 problem, ")


def test_certificates_say_how_long_they_last(tmp_path: Path) -> None:
    files = Files(tmp_path)
    arguments = ("--data-dir", str(tmp_path / "data"), *files.flags, "--tls-client-ca", str(files.client_ca))

    for days, state, status in ((400, "ok", 0), (10, "warning", 0), (-1, "problem", 1)):
        issued = files.authority.issue_cert("localhost", not_after=datetime.now(UTC) + timedelta(days=days, hours=1))
        issued.cert_chain_pems[0].write_to_path(str(files.certificate))
        issued.private_key_pem.write_to_path(str(files.key))

        found = examined(*arguments, status=status)

        assert found["certificate"][0] == state, found
        assert found["CA of clients"][0] == "ok"
        assert "SIGHUP" in found["certificate"][2] or state == "ok"

    files.key.write_text("none")
    assert "--tls-key" in examined(*arguments, status=1)["certificate"][1]


def test_files_with_secrets_that_others_can_read_are_found(tmp_path: Path, careless: ValkeyProcess) -> None:
    file, token = tmp_path / "coordinator.toml", tmp_path / "operator.token"
    file.write_text(f"redis-url = 'redis://:geheimwort@127.0.0.1:{careless.port}'\nauth = 'keys'\n"
                    f"operator-token-file = '{token}'")  # fmt: skip
    token.write_text("hc_")
    file.chmod(0o644)
    token.chmod(0o644)

    found = examined("--config", str(file), status=1)
    assert found["configuration file"][2] == f"chmod 600 {file}"
    assert (found["operator's token"][0], f"chmod 600 {token}" in found["operator's token"][2]) == ("problem", True)

    for path in (file, token):
        path.chmod(0o600)
    found = examined("--config", str(file), status=1)  # for the store forgets
    assert (found["configuration file"][0], found["operator's token"][0]) == ("ok", "ok")


def test_too_few_descriptors_are_found_before_they_are_needed(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    pid = os.fork()
    if pid == 0:  # a limit that is lowered does not rise again
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), 512))
            found = examined("--data-dir", str(tmp_path / "data"), "--workers", "1", status=0)
            state, what, do = found["open files"]
            os._exit(0 if state == "warning" and "--max-connections" in what and "LimitNOFILE" in do else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


def test_a_wrong_setting_ends_it_with_2() -> None:
    assert run("--workers", "0").exit_code == 2
