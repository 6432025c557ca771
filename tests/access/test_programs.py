"""The client library, the command line and the runner log in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from coordinator.client import CannotConnect, Credentials, Forbidden, NotFound, NotLoggedIn, connect
from coordinator.secretfiles import Unusable
from coordinator.signing import Signer
from tests.access import callers
from tests.access.callers import Caller
from tests.access.conftest import CONTEXT, EXECUTOR
from tests.support.commands import herocoordinator
from tests.support.runner import runner
from tests.support.server import CoordinatorProcess

OF = {"context_id": CONTEXT}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "ada.key"
    made = herocoordinator("key", "new", str(file))
    assert made.returncode == 0, made.stderr
    assert made.stdout.strip() == Signer.read(file).public
    assert file.stat().st_mode & 0o777 == 0o600
    return file


@pytest.fixture
def ada(operator: Caller, key: Path) -> str:
    """An actor with that key, who is an admin of a context of the same id."""
    operator.result("actor.create", callers.actor(880, Signer.read(key).public))
    operator.result("context.create", callers.context(880, admins=[880], executors=[], readers=[]))
    return "actor:880"


def test_a_key_is_not_overwritten(key: Path) -> None:
    before = key.read_bytes()

    again = herocoordinator("key", "new", str(key))

    assert again.returncode == 2
    assert "is there already" in again.stderr
    assert key.read_bytes() == before


def test_a_key_that_others_can_read_is_refused(key: Path, tmp_path: Path) -> None:
    open_one = tmp_path / "open.key"
    open_one.write_bytes(key.read_bytes())
    open_one.chmod(0o644)

    with pytest.raises(Unusable, match="chmod 600"):
        Signer.read(open_one)


@pytest.mark.parametrize("transport", ["http", "ws"])
def test_the_command_line_logs_in_with_a_key(guarded: CoordinatorProcess, key: Path, ada: str, transport: str) -> None:
    url = getattr(guarded, transport)

    nobody = herocoordinator("call", "--url", url, "context.load", '{"id": 880}')
    assert nobody.returncode == 1
    assert "-32002" in nobody.stderr
    assert "log in first" in nobody.stderr
    known = herocoordinator("call", "--url", url, "--key", str(key), "--as", ada, "context.load", '{"id": 880}')
    assert json.loads(known.stdout)["admins"] == [880]
    assert herocoordinator("whoami", "--url", url, "--key", str(key), "--as", ada).stdout.startswith(ada)
    unsaid = herocoordinator("whoami", "--url", url, "--key", str(key))
    assert unsaid.returncode == 2
    assert "--as actor:ID" in unsaid.stderr


@pytest.mark.parametrize("transport", ["http", "ws"])
def test_who_is_not_let_in_ends_with_1_however_it_is_told(
    guarded: CoordinatorProcess, key: Path, tmp_path: Path, transport: str
) -> None:
    forged = tmp_path / "forged.token"
    forged.write_text("hc_" + "x" * 43)
    forged.chmod(0o600)
    of_another = ("--key", str(key), "--as", "actor:1")

    for shown, why in ((of_another, "no key of actor:1"), (("--token-file", str(forged)), "was revoked")):
        for command in (("whoami",), ("flow", "list"), ("call", "context.list")):
            denied = herocoordinator(*command, "--url", getattr(guarded, transport), *shown)

            assert (denied.returncode, why in denied.stderr) == (1, True), (command, denied.stderr)


def test_tokens_from_the_command_line(guarded: CoordinatorProcess, key: Path, ada: str, tmp_path: Path) -> None:
    login, made = tmp_path / "login.token", tmp_path / "made.token"
    who = ("--url", guarded.http, "--key", str(key), "--as", ada)
    done = herocoordinator("login", str(login), *who)
    assert done.returncode == 0, done.stderr
    assert login.stat().st_mode & 0o777 == 0o600
    assert "hc_" not in done.stdout + done.stderr

    created = herocoordinator("token", "create", "build", "--out", str(made), *who)
    assert created.returncode == 0, created.stderr
    id = created.stderr.split()[1]
    shown = ("--url", guarded.http, "--token-file", str(made))
    assert herocoordinator("whoami", *shown).stdout.startswith(ada)
    assert json.loads(herocoordinator("context", "members", "880", *shown).stdout)["admins"] == [880]
    listed = herocoordinator("token", "list", *shown).stdout
    assert id in listed
    assert "build" in listed
    assert "hc_" not in listed
    flows = herocoordinator("flow", "list", "--context", "880", "--url", guarded.ws, "--token-file", str(made))
    assert flows.returncode == 0, flows.stderr
    assert herocoordinator("token", "revoke", id, *who).returncode == 0
    assert herocoordinator("token", "revoke", id, *who).returncode == 1


def test_the_operator_s_token_is_rotated(tmp_path: Path) -> None:
    file = tmp_path / "operator"
    file.write_text("hc_" + "a" * 43 + "\n")
    file.chmod(0o600)
    for _ in range(2):
        done = herocoordinator("token", "rotate-operator", "--operator-token-file", str(file))
        assert done.returncode == 0, done.stderr
        assert "hc_" not in done.stdout

    lines = file.read_text().split()
    assert len(lines) == 2
    assert "hc_" + "a" * 43 not in lines
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_client_logs_in_again_on_each_connection(guarded: CoordinatorProcess, key: Path, ada: str) -> None:
    async def main() -> None:
        async with connect(guarded.ws, credentials=Credentials(ada, key), connect_timeout=60) as client:
            assert (await client.context_load(id=880)).admins == [880]
            client.drop("for a test")
            assert (await client.context_load(id=880)).admins == [880]
            assert (await client.auth_whoami()).principal == ada
            with pytest.raises(Forbidden):
                await client.actor_load(id=1)
        async with connect(guarded.ws) as nobody:
            with pytest.raises(NotLoggedIn):
                await nobody.context_load(id=880)
        async with connect(guarded.ws, credentials=Credentials("actor:1", key), give_up_after=0) as wrong:
            with pytest.raises(CannotConnect, match="no key of actor:1") as denied:
                await wrong.context_load(id=880)
            assert denied.value.denied
        async with connect(guarded.ws, credentials=Credentials(token="hc_" + "x" * 43), give_up_after=0) as forged:
            with pytest.raises(CannotConnect, match="revoked") as denied:
                await forged.context_load(id=880)
            assert denied.value.denied

    trio.run(main)


def test_a_follower_whose_right_is_taken_away_ends(
    guarded: CoordinatorProcess, operator: Caller, key: Path, ada: str
) -> None:
    operator.result("flow.create", {"context_id": 880, "flow": callers.flow(880, 880, 1, [])})
    operator.result("flow.start", {"context_id": 880, "id": 1})
    nobody = callers.context(880, admins=[], executors=[], readers=[])

    async def main() -> None:
        async with connect(guarded.ws, credentials=Credentials(ada, key), connect_timeout=60) as client:
            with trio.fail_after(60):
                async with client.follow_flow(880, 1, forever=True) as events:
                    assert (await anext(aiter(events))).status == "Started"
                    await trio.to_thread.run_sync(operator.result, "context.create", nobody)
                    assert {event.kind async for event in events} <= {"flow"}
                    assert events.deleted  # as far as it can see
            with pytest.raises(NotFound):
                await client.context_load(id=880)

    trio.run(main)


def test_a_client_with_a_key_gets_on_where_nobody_logs_in(server: CoordinatorProcess, key: Path) -> None:
    async def main() -> None:
        async with connect(server.ws, credentials=Credentials("actor:1", key), connect_timeout=60) as client:
            assert (await client.auth_whoami()).principal == "open"

    trio.run(main)


def test_a_runner_logs_in_and_works(
    guarded: CoordinatorProcess, operator: Caller, tokens: dict[str, str | None], tmp_path: Path
) -> None:
    file = tmp_path / "runner.key"
    herocoordinator("key", "new", str(file))
    operator.result("runner.create", callers.runner(CONTEXT, 881, Signer.read(file).public))
    id = 881_000
    submitted = {
        "flow": callers.flow(CONTEXT, EXECUTOR, id, [id]),
        "jobs": [callers.job(CONTEXT, EXECUTOR, id, script="import os; print(os.environ['SECRET'])")],
    }
    with runner(guarded.ws, CONTEXT, arguments=("--id", "881", "--key", str(file))):
        operator.result("flow.submit", {**OF, **submitted})
        for _ in range(600):
            flow = operator.result("flow.load", {**OF, "id": id})
            if flow["status"] in ("Finished", "Error"):
                break
            trio.run(trio.sleep, 0.1)
    assert flow["status"] == "Finished"
    assert operator.result("runner.load", {**OF, "id": 881})["address"] == "192.0.2.3"  # it did not register itself
