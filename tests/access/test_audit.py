"""The audit log: a line for each write, denial and login, from every worker, and nothing of what was sent in it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.access import callers
from tests.access.callers import Caller, Key, caller
from tests.access.conftest import CONTEXT, OTHER_CONTEXT
from tests.support.disks import small_file_system
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.streaming import job
from tests.support.waiting import until_sync

ADMIN, EXECUTOR, READER, STRANGER, RUNNER = 1, 2, 3, 4, 7
KEYS = {id: Key() for id in (ADMIN, EXECUTOR, READER, STRANGER)}
RUNNER_KEY = Key()
NOBODY, FORBIDDEN, ABSENT, STORAGE = -32002, -32003, -32001, -32010
MARK = "MARKhbz"  # in all params that take a text
OF = {"context_id": CONTEXT}
MEMBERS = {"at", "principal", "method", "context", "outcome", "reason", "address", "transport", "request_id", "id"}
_ids = count(100)

Line = dict[str, Any]


def lines(path: Path) -> list[Line]:
    """All there are. Each is whole, as soon as what did not go in whole is taken back."""
    text = b""

    def is_whole() -> bool:
        nonlocal text
        text = path.read_bytes() if path.exists() else b""
        return text == b"" or text.endswith(b"\n")

    until_sync(is_whole)
    return [json.loads(line) for line in text.splitlines()]


class Log:
    """What is new in the file, in the order written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = len(lines(path))

    def next(self, number: int = 1) -> list[Line]:
        until_sync(lambda: len(lines(self.path)) >= self._seen + number)
        found = lines(self.path)[self._seen :]
        assert len(found) == number, found
        self._seen += number
        for line in found:
            assert line.keys() <= MEMBERS
            assert line.keys() >= MEMBERS - {"reason"}
            at = datetime.strptime(line["at"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
            assert abs((datetime.now(UTC) - at).total_seconds()) < 60
        return found

    def expect(self, method: str, principal: str, context: int | None, outcome: str | int, **more: Any) -> Line:
        """The next line is this."""
        [line] = self.next()
        expected = {"method": method, "principal": principal, "context": context, "outcome": outcome, **more}
        assert {**line, **expected} == line
        assert ("reason" in line) == (outcome in (NOBODY, FORBIDDEN, ABSENT))
        return line


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audited")


@pytest.fixture(scope="module")
def path(directory: Path) -> Path:
    return directory / "audit.jsonl"


@pytest.fixture(scope="module")
def server(directory: Path, path: Path) -> Iterator[CoordinatorProcess]:
    options = "--data-dir", str(directory / "data"), "--auth", "keys", "--workers", "2", "--audit-log", str(path)
    with coordinator(*options) as one:
        with caller(one, "http", callers.operator_token(directory / "data")) as operator:
            for id, key in KEYS.items():
                operator.result("actor.create", callers.actor(id, key.public))
            operator.result(
                "context.create", callers.context(CONTEXT, admins=[ADMIN], executors=[EXECUTOR], readers=[READER])
            )
            operator.result("runner.create", callers.runner(CONTEXT, RUNNER, RUNNER_KEY.public))
        yield one


@pytest.fixture
def log(server: CoordinatorProcess, path: Path) -> Log:
    last = [0]

    def is_quiet() -> bool:
        before, last[0] = last[0], len(lines(path))
        return before == last[0] > 0

    asyncio.run(asyncio.sleep(0.2))
    until_sync(is_quiet)
    return Log(path)


@pytest.fixture
def operator(server: CoordinatorProcess, directory: Path) -> Iterator[Caller]:
    with caller(server, "http", callers.operator_token(directory / "data")) as one:
        yield one


@pytest.fixture(scope="module")
def tokens(server: CoordinatorProcess, directory: Path) -> dict[str, str]:
    principals = [*(f"actor:{id}" for id in KEYS), f"runner:{CONTEXT}:{RUNNER}"]
    with caller(server, "http", callers.operator_token(directory / "data")) as operator:
        return {
            name: operator.result("token.create", {"label": MARK, "principal": name})["token"] for name in principals
        }


@pytest.fixture(params=["http", "ws"])
def transport(request: pytest.FixtureRequest) -> str:
    named: str = request.param
    return named


def marked_job(caller_id: int, id: int) -> dict[str, Any]:
    return callers.job(CONTEXT, caller_id, id, script=MARK, env_vars={MARK: MARK})


def opened(server: CoordinatorProcess, transport: str, log: Log, token: str, principal: str) -> Caller:
    """A client whose login has its line, if it has one."""
    one = Caller(server, transport, token)
    if transport == "ws":
        log.expect("connect", principal, None, "ok", transport="ws", id=None)
    return one


def test_writes_and_denials_have_a_line_and_reads_have_none(
    server: CoordinatorProcess, log: Log, tokens: dict[str, str], transport: str
) -> None:
    id = next(_ids)
    executor = opened(server, transport, log, tokens[f"actor:{EXECUTOR}"], f"actor:{EXECUTOR}")
    mine, others = marked_job(EXECUTOR, id), marked_job(ADMIN, id)

    executor.result("job.create", {**OF, "job": mine})
    log.expect("job.create", "actor:2", CONTEXT, "ok", transport=transport, address="127.0.0.1", id="1")
    executor.result("job.load", {**OF, "caller_id": EXECUTOR, "id": id})
    executor.code("job.load", {**OF, "caller_id": EXECUTOR, "id": 4_000_000})
    executor.code("job.create", {**OF, "job": {**mine, "timeout": "never"}})
    assert executor.code("job.create", {**OF, "job": others}) == FORBIDDEN
    log.expect("job.create", "actor:2", CONTEXT, FORBIDDEN, reason="create jobs, flows and messages")
    assert executor.code("runner.delete", {**OF, "id": RUNNER}) == FORBIDDEN
    log.expect("runner.delete", "actor:2", CONTEXT, FORBIDDEN, reason="administer runners")
    assert executor.code("job.load", {"context_id": OTHER_CONTEXT, "caller_id": 1, "id": 1}) == ABSENT
    log.expect("job.load", "actor:2", OTHER_CONTEXT, ABSENT, reason="read jobs, flows and messages")
    executor.close()


def test_what_nobody_may_is_denied_in_every_form(server: CoordinatorProcess, log: Log, transport: str) -> None:
    with caller(server, transport) as nobody:
        assert nobody.code("flow.list", OF) == NOBODY
        reads = "read jobs, flows and messages"
        log.expect("flow.list", "nobody", CONTEXT, NOBODY, reason=reads, transport=transport)
        nobody.result("auth.whoami", {})
        calls = [
            {"jsonrpc": "2.0", "id": "one", "method": "job.list", "params": OF},
            {"jsonrpc": "2.0", "method": "runner.delete", "params": {**OF, "id": 1}},
            {"jsonrpc": "2.0", "id": 3, "method": "auth.challenge", "params": {}},
        ]
        nobody.send(calls)
        first, second = log.next(2)
        assert (first["method"], first["id"], first["outcome"]) == ("job.list", "one", NOBODY)
        assert (second["method"], second["id"], second["outcome"]) == ("runner.delete", None, NOBODY)
        if transport == "http":  # all calls of a message have its id
            assert first["request_id"] == second["request_id"]
            return
        client, number = second["request_id"].rsplit(".", 1)
        assert first["request_id"] == f"{client}.{int(number) - 1}"


def test_logins_by_key(server: CoordinatorProcess, log: Log, transport: str) -> None:
    with caller(server, transport) as one:
        assert one.log_in(KEYS[READER], "actor:3")["principal"] == "actor:3"
        log.expect("auth.login", "actor:3", None, "ok", transport=transport)
        challenge = one.result("auth.challenge", {})
        wrong = KEYS[ADMIN].login("actor:3", challenge, one.host)
        assert one.code("auth.login", wrong) == NOBODY
        who = "nobody" if transport == "http" else "actor:3"
        log.expect("auth.login", who, None, NOBODY, reason="a login")


def test_logins_by_token(server: CoordinatorProcess, log: Log, tokens: dict[str, str]) -> None:
    with caller(server, "ws") as one:
        one.result("auth.login", {"token": tokens["actor:3"]})
        log.expect("auth.login", "actor:3", None, "ok")
    with caller(server, "ws") as one:
        assert one.code("auth.login", {"token": "hc_" + "A" * 43}) == NOBODY
        log.expect("auth.login", "nobody", None, NOBODY)
    with pytest.raises(InvalidStatus):
        Caller(server, "ws", "hc_" + "A" * 43)
    log.expect("connect", "nobody", None, NOBODY, reason="a login", transport="ws")
    with caller(server, "http", "hc_" + "A" * 43) as one:
        assert one.code("auth.whoami", {}) == NOBODY
        log.expect("auth.whoami", "nobody", None, NOBODY)
    assert httpx.get(f"{server.http}/metrics").status_code == 401
    log.expect("/metrics", "nobody", None, NOBODY, transport="http")


def test_tokens_and_keys_that_change(server: CoordinatorProcess, log: Log, operator: Caller) -> None:
    id, old, new = next(_ids), Key(), Key()
    operator.result("actor.create", callers.actor(id, old.public))
    log.expect("actor.create", "operator", None, "ok")
    made = operator.result("token.create", {"label": MARK, "principal": f"actor:{id}"})
    log.expect("token.create", "operator", None, "ok")
    with caller(server, "ws", made["token"]) as one:
        log.expect("connect", f"actor:{id}", None, "ok")
        one.result("context.list", {})
        operator.result("token.revoke", {"id": made["id"]})
        log.expect("token.revoke", "operator", None, "ok")
        one.note("auth.ended")
        line = log.expect("auth.ended", f"actor:{id}", None, NOBODY, transport="ws", id=None)
        assert "login is over" in line["reason"]
    operator.result("actor.rotate_key", {"id": id, "pubkey": new.public})
    log.expect("actor.rotate_key", "operator", None, "ok")
    operator.result("actor.revoke", {"id": id})
    log.expect("actor.revoke", "operator", None, "ok")


def test_a_subscription_that_is_ended(server: CoordinatorProcess, log: Log, operator: Caller) -> None:
    id = next(_ids)
    operator.result("actor.create", callers.actor(id, Key().public))
    operator.result("context.create", callers.context(id, admins=[], executors=[], readers=[id]))
    operator.result("flow.create", {"context_id": id, "flow": callers.flow(id, id, 1, [])})
    token = operator.result("token.create", {"label": MARK, "principal": f"actor:{id}"})["token"]
    log.next(4)
    reader = opened(server, "ws", log, token, f"actor:{id}")
    reader.result("flow.subscribe", {"context_id": id, "id": 1})
    operator.result("context.create", callers.context(id, admins=[], executors=[], readers=[]))
    log.expect("context.create", "operator", id, "ok")
    log.expect("auth.ended", f"actor:{id}", id, FORBIDDEN, reason="follow flows")
    reader.close()


def test_a_runners_calls_and_one_that_is_cut_off(server: CoordinatorProcess, log: Log, tokens: dict[str, str]) -> None:
    name = f"runner:{CONTEXT}:{RUNNER}"
    one = opened(server, "ws", log, tokens[name], name)
    take = {**OF, "runner_id": RUNNER, "script_types": ["Python"]}
    assert one.code("job.take", {**take, "runner_id": 8}) == FORBIDDEN
    log.expect("job.take", name, CONTEXT, FORBIDDEN, reason="work as this runner")
    assert one.result("job.take", {**take, "wait": 0}) is not None
    log.expect("job.take", name, CONTEXT, "ok")
    assert one.ws is not None
    one.ws.send(json.dumps({"jsonrpc": "2.0", "id": 5, "method": "job.take", "params": {**take, "wait": 30}}))
    one.ws.send(json.dumps({"jsonrpc": "2.0", "id": 6, "method": "auth.whoami", "params": {}}))
    one.next_reply()
    one.close()
    [line] = log.next()
    assert (line["method"], line["principal"], line["outcome"], line["id"]) == ("job.take", name, STORAGE, "5")
    assert "client has left" in line["reason"]


def test_ids_are_bounded_and_hide_tokens(server: CoordinatorProcess, log: Log, tokens: dict[str, str]) -> None:
    token = tokens[f"actor:{ADMIN}"]
    with caller(server, "http", token) as admin:
        odd = 'a"\\\n\u2028é'
        for id, shown in (("x" * 100_000, "x" * 64), (token, "hc_***"), (odd, None), (1.5, "1.5"), (None, "null")):
            admin.send({"jsonrpc": "2.0", "id": id, "method": "runner.delete", "params": {**OF, "id": 4_000_000}})
            [line] = log.next()
            assert shown is None or line["id"] == shown


def test_nothing_that_was_sent_or_answered_is_in_it(
    server: CoordinatorProcess, path: Path, log: Log, operator: Caller, tokens: dict[str, str], directory: Path
) -> None:
    id = next(_ids)
    with caller(server, "http", tokens[f"actor:{ADMIN}"]) as admin:
        message = callers.message(CONTEXT, ADMIN, id, [marked_job(ADMIN, id)]) | {"message": MARK}
        admin.result("message.create", {**OF, "message": message})
        jobs = [marked_job(ADMIN, id)]
        admin.call("flow.submit", {**OF, "flow": callers.flow(CONTEXT, ADMIN, id, [id]), "jobs": jobs})
        admin.code("job.finish", {**OF, "caller_id": ADMIN, "id": id, "token": MARK, "result": {MARK: MARK}})
        admin.code("job.log", {**OF, "caller_id": ADMIN, "id": id, "token": MARK, "stream": "stdout", "lines": [MARK]})
    log.next(4)
    text = path.read_text()
    assert MARK not in text
    for secret in (*tokens.values(), callers.operator_token(directory / "data")):
        assert secret not in text
    for key in (*KEYS.values(), RUNNER_KEY):
        assert key.public.removeprefix("ed25519:") not in text
    assert "hc_" not in text.replace("hc_***", "")


def test_both_workers_write_whole_lines_of_all_calls(
    server: CoordinatorProcess, log: Log, tokens: dict[str, str]
) -> None:
    clients, batches, calls = 8, 5, 40
    token = tokens[f"actor:{ADMIN}"]

    async def one(number: int) -> None:
        async with connect(server.ws, additional_headers={"authorization": f"Bearer {token}"}) as socket:
            for batch in range(batches):
                ids = [100_000 + (number * batches + batch) * calls + call for call in range(calls)]
                message = [
                    {"jsonrpc": "2.0", "id": id, "method": "job.create", "params": {**OF, "job": marked_job(ADMIN, id)}}
                    for id in ids
                ]
                await socket.send(json.dumps(message))
                assert all("result" in reply for reply in json.loads(await socket.recv()))

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(one(number))

    asyncio.run(all_of_them())

    found = log.next(clients * (batches * calls + 1))
    created = [line for line in found if line["method"] == "job.create"]
    assert len({line["id"] for line in created}) == clients * batches * calls
    assert len({line["request_id"] for line in found}) == len(found)
    assert len({line["request_id"].split("-")[0] for line in created}) == 2  # of each worker
    by_client: dict[str, list[int]] = {}
    for line in created:
        by_client.setdefault(line["request_id"].rsplit(".", 1)[0], []).append(int(line["id"]))
    assert all(ids == sorted(ids) for ids in by_client.values())


# -- the file


def call(server: CoordinatorProcess, method: str, params: Any, id: Any = 1) -> Any:
    return httpx.post(
        server.http, json={"jsonrpc": "2.0", "id": id, "method": method, "params": params}, timeout=30, verify=False
    )


def test_without_logins_it_is_anybody_and_a_stop_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with coordinator("--data-dir", str(tmp_path / "data"), "--workers", "1", "--audit-log", str(path)) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        message = {"jsonrpc": "2.0", "method": "job.create"}
        with httpx.Client(timeout=30) as client:
            for id in range(300):
                assert "result" in client.post(server.http, json={**message, "id": id, "params": job(3, id)}).json()
        assert call(server, "job.load", {"context_id": 3, "caller_id": 7, "id": 1}).json()["result"]
        assert "result" in call(server, "job.delete", {"context_id": 3, "caller_id": 7, "id": 1}, "x").json()
        server.stop()
    found = lines(path)
    assert [line["id"] for line in found] == [*map(str, range(300)), "x"]
    assert {(line["principal"], line["context"], line["outcome"]) for line in found} == {("anybody", 3, "ok")}


def test_a_write_that_was_not_answered_in_time(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    options = "--data-dir", str(tmp_path / "data"), "--workers", "1", "--audit-log", str(path)
    with coordinator(*options, "--request-timeout", "1", "--store-timeout", "30") as server:
        call(server, "job.create", job(3, 1))
        [store] = [int(pid) for pid in server.children() if "valkey" in Path(f"/proc/{pid}/cmdline").read_text()]
        os.kill(store, signal.SIGSTOP)
        try:
            assert call(server, "job.create", job(3, 2), 2).json()["error"]["code"] == STORAGE
        finally:
            os.kill(store, signal.SIGCONT)
        until_sync(lambda: len(lines(path)) == 2)
    assert [line["outcome"] for line in lines(path)] == ["ok", STORAGE]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_goes_on_in_a_new_file_once_it_was_rotated(tmp_path: Path, workers: str) -> None:
    path, old = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    with coordinator("--data-dir", str(tmp_path / "data"), "--workers", workers, "--audit-log", str(path)) as server:
        for id in range(20):
            call(server, "job.create", job(3, id))
        until_sync(lambda: len(lines(path)) == 20)
        path.rename(old)
        for id in range(20, 40):
            call(server, "job.create", job(3, id))
        until_sync(lambda: len(lines(path)) == 20)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(lines(old)) == 20


def test_a_page_that_is_denied_has_the_address_that_a_proxy_tells(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    options = "--auth", "keys", "--behind-proxy", "127.0.0.0/8", "--audit-log", str(path)
    with coordinator("--data-dir", str(tmp_path / "data"), *options) as one:
        told = {"x-forwarded-for": "198.51.100.9, 203.0.113.7", "x-request-id": "abc"}
        assert httpx.get(f"{one.http}/metrics", headers=told).status_code == 401
        until_sync(lambda: bool(lines(path)))

    [line] = lines(path)
    assert (line["method"], line["address"], line["request_id"]) == ("/metrics", "203.0.113.7", "abc")


def test_a_session_has_the_id_that_its_request_was_given(tmp_path: Path) -> None:
    path, data = tmp_path / "audit.jsonl", tmp_path / "data"
    with coordinator("--data-dir", str(data), "--auth", "keys", "--audit-log", str(path)) as one:
        with caller(one, "http", callers.operator_token(data)) as operator:
            operator.result("actor.create", callers.actor(1))
            token = operator.result("token.create", {"label": "one", "principal": "actor:1"})["token"]
        with httpx.Client(base_url=one.http, headers={"origin": one.http}, timeout=60) as page:
            shown = {"authorization": f"Bearer {token}"}
            begun = page.post("/session", headers={**shown, "x-request-id": "begun"})
            refused = page.post("/session", headers={"authorization": f"Bearer {token}x", "x-request-id": "refused"})
            cookie = begun.headers["set-cookie"].partition(";")[0]
            ended = page.delete("/session", headers={"cookie": cookie, "x-request-id": "ended"})
        told = {response.headers["x-request-id"]: response.status_code for response in (begun, refused, ended)}
        assert told == {"begun": 200, "refused": 401, "ended": 204}
        until_sync(lambda: sum(line["method"] == "session" for line in lines(path)) == 3)

    assert [(line["request_id"], line["outcome"]) for line in lines(path) if line["method"] == "session"] == [
        ("begun", "ok"),
        ("refused", -32002),
        ("ended", "ok"),
    ]


def test_standard_error(tmp_path: Path) -> None:
    with coordinator(
        "--data-dir", str(tmp_path), "--workers", "2", "--audit-log", "-", "--log-format", "json"
    ) as server:
        call(server, "job.create", job(3, 1), "one")
        until_sync(lambda: any(entry.get("method") == "job.create" for entry in server.logs))
        assert server.stop() == 0
    assert not any("text" in entry for entry in server.logs)


def test_a_file_that_cannot_be_is_refused_at_the_start(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for path, why in ((link, "is a link"), (tmp_path / "none" / "audit", "No such file"), (tmp_path, "Is a directory")):
        options = "--data-dir", str(tmp_path / "data"), "--workers", "1", "--api-http-port", "0", "--api-ws-port", "0"
        command = [sys.executable, "-m", "coordinator", "serve", *options, "--audit-log", str(path)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 1
        assert why in ended.stderr
        assert "--audit-log" in ended.stderr


# -- a disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB of its own."""
    with small_file_system(tmp_path, "1m") as mounted:
        yield mounted


def lost(server: CoordinatorProcess) -> int:
    page = httpx.get(f"{server.http}/metrics").text
    [value] = [
        line.split()[1] for line in page.splitlines() if line.startswith("herocoordinator_audit_lines_lost_total")
    ]
    return int(float(value))


def notify(server: CoordinatorProcess, calls: int) -> None:
    """So many calls that write, all of which are carried out."""
    one = {"jsonrpc": "2.0", "method": "runner.delete", "params": {"context_id": 3, "id": 1}}
    for _ in range(calls // 1000):
        replies = httpx.post(server.http, json=[*([one] * 999), {**one, "id": "last"}], timeout=60).json()
        assert [reply["id"] for reply in replies] == ["last"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_full_disk_holds_lines_back_then_loses_them_and_calls_go_on(
    tmp_path: Path, small_disk: Path, workers: str
) -> None:
    path, ballast = small_disk / "audit.jsonl", small_disk / "ballast"
    with coordinator("--data-dir", str(tmp_path / "data"), "--workers", workers, "--audit-log", str(path)) as server:
        ballast.write_bytes(b"x" * 700_000)
        notify(server, 3000)  # over half a megabyte of lines
        server.wait_for("the audit log cannot be written; calls go on, and lines are lost once too many wait")
        assert lost(server) == 0
        assert 0 < len(lines(path)) < 3000  # whole ones only

        ballast.unlink()
        until_sync(lambda: len(lines(path)) == 3000)

        calls = 3000
        while not lost(server):
            notify(server, 4000)
            calls += 4000
            assert calls < 100_000
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        until_sync(lambda: told(path) == (calls - lost(server), lost(server)))  # some more may be lost until now
        gone = lost(server)
        notify(server, 1000)
        until_sync(lambda: told(path) == (calls - gone + 1000, gone))


def told(path: Path) -> tuple[int, int]:
    """Calls that have a line, and lines lost by what the file says of that."""
    found = lines(path)
    gaps = [line["lost"] for line in found if "lost" in line]
    return len(found) - len(gaps), sum(gaps)
