"""What settings open and close: registration, what executors and readers may, and how a start is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from tests.access import callers
from tests.access.callers import Caller, Key, caller
from tests.support.commands import herocoordinator
from tests.support.server import CoordinatorProcess, coordinator

FORBIDDEN, ABSENT, NOBODY = -32003, -32001, -32002
OF = {"context_id": 1}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("open")


@pytest.fixture(scope="module")
def opened(directory: Path) -> Iterator[CoordinatorProcess]:
    flags = ("--registration", "open", "--executor-rights", "run", "--reader-logs", "shown")
    with coordinator("--data-dir", str(directory), "--auth", "keys", *flags) as server:
        yield server


@pytest.fixture
def operator(opened: CoordinatorProcess, directory: Path) -> Iterator[Caller]:
    with caller(opened, "http", callers.operator_token(directory)) as one:
        yield one


@pytest.mark.parametrize("transport", ["http", "ws"])
def test_with_registration_anybody_begins_and_takes_nothing_over(opened: CoordinatorProcess, transport: str) -> None:
    id = 100 if transport == "http" else 200
    key, other = Key(), Key()
    with caller(opened, transport) as nobody:
        assert nobody.result("actor.create", callers.actor(id, key.public))["id"] == id
        assert nobody.code("actor.create", callers.actor(id, other.public)) == FORBIDDEN
        assert nobody.code("actor.create", callers.actor(id, key.public)) == FORBIDDEN
        assert nobody.code("context.create", callers.context(id, admins=[id], executors=[], readers=[])) == NOBODY
    with caller(opened, "ws") as one:
        one.log_in(key, f"actor:{id}")
        foreign = callers.context(id, admins=[id + 1], executors=[id], readers=[])
        assert one.code("context.create", foreign) == ABSENT
        own = callers.context(id, admins=[id], executors=[], readers=[])
        assert one.result("context.create", own)["admins"] == [id]
        assert one.result("context.load", {"id": id})["admins"] == [id]  # at once
        assert one.result("context.create", own)["admins"] == [id]
    with caller(opened, "ws") as one:
        one.result("actor.create", callers.actor(id + 1, other.public))
        one.log_in(other, f"actor:{id + 1}")
        assert one.code("context.create", callers.context(id, admins=[id + 1], executors=[], readers=[])) == ABSENT


def test_executors_that_only_run_do_not_submit(opened: CoordinatorProcess, operator: Caller) -> None:
    operator.result("actor.create", callers.actor(2, "none"))
    operator.result("actor.create", callers.actor(3, "none"))
    operator.result("context.create", callers.context(1, admins=[1], executors=[2], readers=[3]))
    operator.result("job.create", {**OF, "job": callers.job(1, 2, 1)})
    operator.result("flow.create", {**OF, "flow": callers.flow(1, 2, 1, [1])})
    token = operator.result("token.create", {"label": "x", "principal": "actor:2"})["token"]
    with caller(opened, "http", token) as executor:
        assert executor.code("job.create", {**OF, "job": callers.job(1, 2, 2)}) == FORBIDDEN
        submitted = {**OF, "flow": callers.flow(1, 2, 2, [2]), "jobs": [callers.job(1, 2, 2)]}
        assert executor.code("flow.submit", submitted) == FORBIDDEN
        assert executor.code("flow.delete", {**OF, "id": 1}) == FORBIDDEN
        assert executor.result("flow.start", {**OF, "id": 1})["status"] == "Started"
        assert executor.code("flow.delete_many", {**OF, "filter": {"caller_id": 2}}) == FORBIDDEN
        assert executor.result("flow.cancel_many", {**OF, "filter": {"caller_id": 2}})["done"] == 1
        overrides = {"jobs": [{"id": 1, "script": "print('mine')"}]}
        assert executor.code("flow.rerun", {**OF, "id": 1, "overrides": overrides}) == FORBIDDEN
        assert executor.result("flow.rerun", {**OF, "id": 1})["status"] == "Started"
    reader = operator.result("token.create", {"label": "x", "principal": "actor:3"})["token"]
    with caller(opened, "http", reader) as one:
        assert one.result("job.tail", {**OF, "caller_id": 2, "id": 1})["reports"] == []


def test_a_start_off_loopback_is_refused_unless_it_is_said_who_may_call(tmp_path: Path) -> None:
    address = ("--api-http-ip", "0.0.0.0", "--data-dir", str(tmp_path))
    for flags, advice in (
        ((), "--auth keys"),
        (("--auth", "keys"), "--tls-cert"),
        (("--auth", "keys", "--behind-proxy", "proxy"), "no network"),
    ):
        refused = herocoordinator("serve", *address, *flags)
        assert refused.returncode == 2
        assert advice in refused.stderr


def test_a_token_file_that_others_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "operator"
    file.write_text("hc_" + "a" * 43)
    file.chmod(0o644)

    refused = herocoordinator(
        "serve", "--data-dir", str(tmp_path / "data"), "--auth", "keys", "--operator-token-file", str(file)
    )

    assert refused.returncode == 1
    assert "chmod 600" in refused.stderr


def test_it_is_said_once_that_everybody_may_call(tmp_path: Path) -> None:
    with coordinator("--data-dir", str(tmp_path)) as server:
        said = server.wait_for("every local user and every script may call: --auth none; --auth keys has them log in")
        assert said["level"] == "info"
    with coordinator("--data-dir", str(tmp_path), "--auth", "none", "--api-http-ip", "0.0.0.0") as server:
        said = server.wait_for(
            "EVERYBODY who reaches this address may call everything, run scripts on all runners included: --auth none"
        )
        assert said["level"] == "warning"
        port = server.http.rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", headers={"host": "evil.example"}).status_code == 403
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", headers={"host": "10.0.0.7"}).status_code == 200


def test_over_tls_and_http_2_callers_log_in_too(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("hero.example", "localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    tls = ("--tls-cert", str(tmp_path / "cert"), "--tls-key", str(tmp_path / "key"))
    flags = ("--auth", "keys", "--api-http-ip", "0.0.0.0", "--api-ws-ip", "0.0.0.0", *tls)
    key = Key()
    with coordinator("--data-dir", str(tmp_path / "data"), *flags) as server:
        port = server.http.rpartition(":")[2]
        operator = {"authorization": f"Bearer {callers.operator_token(tmp_path / 'data')}"}
        for http2 in (False, True):
            with httpx.Client(base_url=f"https://localhost:{port}", verify=False, http1=not http2, http2=http2) as http:

                def call(method: str, params: object, **headers: str) -> httpx.Response:
                    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                    return http.post("/", json=body, headers=headers, timeout=60)

                assert call("actor.create", callers.actor(1, key.public), **operator).status_code == 200
                refused = call("actor.load", {"id": 1})
                assert refused.status_code == 401
                assert refused.json()["error"]["code"] == NOBODY
                challenge = call("auth.challenge", {}).json()["result"]
                login = key.login("actor:1", challenge, f"localhost:{port}")
                token = call("auth.login", login).json()["result"]["token"]
                known = call("actor.load", {"id": 1}, authorization=f"Bearer {token}")
                assert known.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
                assert known.json()["result"]["id"] == 1
                assert http.get("/healthz", headers={"host": "hero.example"}).status_code == 200
                assert http.get("/healthz", headers={"host": "evil.example"}).status_code == 403
