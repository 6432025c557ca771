"""JWTs of an identity provider: whom they mean, what is refused, and when what they have opened ends."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.access import callers
from tests.access.callers import Caller, Key, caller
from tests.support.commands import herocoordinator
from tests.support.jwts import AUDIENCE, ISSUER, ProviderKey, claims, encoded, hs256, jwks, unsigned
from tests.support.server import CoordinatorProcess, coordinator

NOBODY, FORBIDDEN, ABSENT, INVALID = -32002, -32003, -32001, -32602
ANY_PORTS = "--api-http-port", "0", "--api-ws-port", "0"
CONTEXT, ACTOR, RUNNER = 1, 7, 3
SOON = 20.0

RSA, EC, ED = ProviderKey("rsa"), ProviderKey("ec", "EC"), ProviderKey("ed", "Ed25519")
LEAVING = ProviderKey("leaving", "Ed25519")
FOREIGN = ProviderKey("rsa")  # has the name of another
_ids = count(100)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jwt")


@pytest.fixture(scope="module")
def keys_file(directory: Path) -> Path:
    path = directory / "jwks.json"
    path.write_text(jwks(RSA, EC, ED, LEAVING))
    return path


@pytest.fixture(scope="module")
def server(directory: Path, keys_file: Path) -> Iterator[CoordinatorProcess]:
    flags: tuple[str, ...] = (
        "--jwt-keys",
        str(keys_file),
        "--jwt-issuer",
        ISSUER,
        "--jwt-audience",
        AUDIENCE,
        "--workers",
        "2",
    )
    flags += ("--audit-log", str(directory / "audit"), "--workers", "2")
    with coordinator("--data-dir", str(directory / "data"), "--auth", "keys", *flags) as running:
        with caller(running, "http", callers.operator_token(directory / "data")) as operator:
            operator.result("actor.create", callers.actor(ACTOR, Key().public))
            operator.result("context.create", callers.context(CONTEXT, admins=[ACTOR], executors=[], readers=[]))
            operator.result("runner.create", callers.runner(CONTEXT, RUNNER))
        yield running


@pytest.fixture
def operator(server: CoordinatorProcess, directory: Path) -> Iterator[Caller]:
    with caller(server, "http", callers.operator_token(directory / "data")) as one:
        yield one


class Doors:
    """Everywhere where a token could count."""

    def __init__(self, server: CoordinatorProcess, http: httpx.Client, nobody: Caller) -> None:
        self._server = server
        self._http = http
        self._nobody = nobody

    def refusals(self, token: str) -> list[str]:
        """What is said to who shows it; all of them refuse it."""
        call = {"jsonrpc": "2.0", "id": 1, "method": "context.load", "params": {"id": CONTEXT}}
        shown = {"authorization": f"Bearer {token}"}
        refused = self._http.post("/", json=call, headers=shown)
        assert refused.status_code == 401, refused.text
        assert self._http.get("/metrics", headers=shown).status_code == 401
        session = self._http.post("/session", headers={"origin": self._server.http, **shown})
        assert session.status_code == 401
        assert "set-cookie" not in session.headers
        with pytest.raises(InvalidStatus) as handshake:
            Caller(self._server, "ws", token)
        assert handshake.value.response.status_code == 401
        assert self._nobody.code("auth.login", {"token": token}) in (NOBODY, INVALID)
        assert self._nobody.code("context.load", {"id": CONTEXT}) == NOBODY
        return [refused.json()["error"]["data"]["detail"], (handshake.value.response.body or b"").decode()]


@pytest.fixture(scope="module")
def http(server: CoordinatorProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.http, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def doors(server: CoordinatorProcess, http: httpx.Client) -> Iterator[Doors]:
    with caller(server, "ws") as nobody:
        yield Doors(server, http, nobody)


@pytest.mark.parametrize("key", [RSA, EC, ED], ids=["RSA", "EC", "Ed25519"])
@pytest.mark.parametrize("audience", [AUDIENCE, ["other", AUDIENCE]], ids=["one audience", "several"])
def test_a_jwt_is_who_it_says_on_both_transports(server: CoordinatorProcess, key: ProviderKey, audience: Any) -> None:
    said = claims(f"actor:{ACTOR}", aud=audience)
    for transport in ("http", "ws"):
        with caller(server, transport, key.sign(said)) as one:
            for _ in range(3):
                who = one.result("auth.whoami", {})
                assert who["principal"] == f"actor:{ACTOR}"
                assert who["expires_at"] == said["exp"]
                assert one.result("context.load", {"id": CONTEXT})["admins"] == [ACTOR]
    with caller(server, "ws") as one:
        assert one.result("auth.login", {"token": key.sign(said)})["expires_at"] == said["exp"]
        assert one.result("context.load", {"id": CONTEXT})["id"] == CONTEXT
    with caller(server, "ws", key.sign(claims(f"runner:{CONTEXT}:{RUNNER}"))) as one:
        assert one.result("runner.load", {"context_id": CONTEXT, "id": RUNNER})["id"] == RUNNER
        assert one.code("job.list", {"context_id": CONTEXT}) == FORBIDDEN


def test_a_provider_s_clock_may_be_a_little_ahead(server: CoordinatorProcess) -> None:
    now = int(time.time())
    for transport in ("http", "ws"):
        with caller(server, transport, RSA.sign(claims(f"actor:{ACTOR}", nbf=now + 20, iat=now + 20))) as one:
            assert one.result("context.load", {"id": CONTEXT})["id"] == CONTEXT


@pytest.mark.slow
def test_the_command_line_takes_one_and_says_who_it_is(server: CoordinatorProcess, tmp_path: Path) -> None:
    file = tmp_path / "ada.jwt"
    file.touch(mode=0o600)
    file.write_text(RSA.sign(claims(f"actor:{ACTOR}")))

    said = herocoordinator("whoami", "--url", server.ws, "--token-file", str(file))

    assert f"actor:{ACTOR}" in said.stdout, said.stderr


BAD: dict[str, tuple[Any, str]] = {
    "no signature": (lambda: unsigned(claims("actor:7")), "algorithm"),
    "no signature, spelled otherwise": (lambda: unsigned(claims("actor:7"), "NoNe"), "algorithm"),
    "no signature, with a key's name": (lambda: _without_signature(RSA.sign(claims("actor:7"), alg="none")), "algo"),
    "a good header and no signature": (lambda: _without_signature(RSA.sign(claims("actor:7"))), "signature"),
    "HS256 with the public key": (lambda: hs256(claims("actor:7"), RSA.pem, "rsa"), "algorithm"),
    "HS256 with the key's text": (lambda: hs256(claims("actor:7"), RSA.jwk["n"].encode(), "rsa"), "algorithm"),
    "HS256 with an Ed25519 key": (lambda: hs256(claims("actor:7"), _raw(ED), "ed"), "algorithm"),
    "an algorithm its key is not for": (lambda: RSA.sign(claims("actor:7"), alg="PS256"), "algorithm"),
    "an algorithm of another kind": (lambda: EC.sign(claims("actor:7"), kid="rsa"), "algorithm"),
    "another key of the name": (lambda: FOREIGN.sign(claims("actor:7")), "signature"),
    "a key that is not there": (lambda: RSA.sign(claims("actor:7"), kid="unknown"), "kid"),
    "a key in its header": (lambda: FOREIGN.sign(claims("actor:7"), jwk=FOREIGN.jwk), "signature"),
    "a key somewhere": (lambda: FOREIGN.sign(claims("actor:7"), jku="http://127.0.0.1:1/", x5u="file:///x"), "signa"),
    "critical extensions": (lambda: RSA.sign(claims("actor:7"), crit=["b64"], b64=False), "critical"),
    "no audience": (lambda: RSA.sign(claims("actor:7", aud=...)), "aud"),
    "audience null": (lambda: RSA.sign(claims("actor:7", aud=None)), "aud"),
    "no audience in the list": (lambda: RSA.sign(claims("actor:7", aud=[])), "aud"),
    "other audiences": (lambda: RSA.sign(claims("actor:7", aud=["a", "b"])), "audience"),
    "null among audiences": (lambda: RSA.sign(claims("actor:7", aud=[None, AUDIENCE])), "audience"),
    "a list of lists": (lambda: RSA.sign(claims("actor:7", aud=[[AUDIENCE]])), "audience"),
    "an object for an audience": (lambda: RSA.sign(claims("actor:7", aud={AUDIENCE: 1})), "audience"),
    "an audience that begins so": (lambda: RSA.sign(claims("actor:7", aud=AUDIENCE + "x")), "audience"),
    "another issuer": (lambda: RSA.sign(claims("actor:7", iss=ISSUER + "/")), "issuer"),
    "no issuer": (lambda: RSA.sign(claims("actor:7", iss=...)), "iss"),
    "issuer null": (lambda: RSA.sign(claims("actor:7", iss=None)), "iss"),
    "a list of issuers": (lambda: RSA.sign(claims("actor:7", iss=[ISSUER])), ""),
    "expired": (lambda: RSA.sign(claims("actor:7", exp=int(time.time()) - 1)), "expired"),
    "no expiry": (lambda: RSA.sign(claims("actor:7", exp=...)), "exp"),
    "expiry null": (lambda: RSA.sign(claims("actor:7", exp=None)), "exp"),
    "expiry true": (lambda: RSA.sign(claims("actor:7", exp=True)), ""),
    "expiry a text": (lambda: RSA.sign(claims("actor:7", exp=str(int(time.time()) + 600))), ""),
    "expiry without end": (lambda: RSA.sign(claims("actor:7", exp=float("inf"))), ""),
    "expiry no number": (lambda: RSA.sign(claims("actor:7", exp=float("nan"))), ""),
    "expiry in no year": (lambda: RSA.sign(claims("actor:7", exp=10**30)), "no time"),
    "not good yet": (lambda: RSA.sign(claims("actor:7", nbf=int(time.time()) + 60)), "nbf"),
    "an odd beginning": (lambda: RSA.sign(claims("actor:7", nbf="soon")), ""),
    "the operator": (lambda: RSA.sign(claims("operator")), "neither"),
    "a number": (lambda: RSA.sign(claims(7)), "neither"),
    "no subject": (lambda: RSA.sign(claims(...)), "neither"),
    "several subjects": (lambda: RSA.sign(claims(["actor:7"])), "neither"),
    "an odd name": (lambda: RSA.sign(claims("actor:07")), "neither"),
    "an actor that is not there": (lambda: RSA.sign(claims("actor:4000000000")), "not there"),
    "a runner that is not there": (lambda: RSA.sign(claims("runner:1:99")), "not there"),
    "a runner of no context": (lambda: RSA.sign(claims("runner:77:3")), "not there"),
    "claims that are a list": (lambda: RSA.sign([claims("actor:7")]), "malformed"),
    "claims that are none": (lambda: RSA.sign(b"\xff"), "malformed"),
    "a deep header": (lambda: f"{encoded(b'[' * 5000)}.e30.e30", "header"),
    "a header that is a list": (lambda: f"{encoded([])}.e30.e30", ""),
    "a name that is no text": (lambda: RSA.sign(claims("actor:7"), kid=["rsa"]), ""),
    "an algorithm that is no text": (lambda: RSA.sign(claims("actor:7"), alg=["RS256"]), ""),
    "three dots": (lambda: RSA.sign(claims("actor:7")) + ".x", ""),
    "huge": (lambda: RSA.sign(claims("actor:7", more="x" * 8200)), ""),
}


def _without_signature(token: str) -> str:
    return token.rpartition(".")[0] + "."


def _raw(key: ProviderKey) -> bytes:
    raw: bytes = key.private.public_key().public_bytes_raw()
    return raw


@pytest.mark.parametrize("name", BAD)
def test_a_bad_jwt_is_refused_everywhere(doors: Doors, name: str) -> None:
    make, why = BAD[name]

    for detail in doors.refusals(make()):
        assert why in detail


def test_no_jwt_is_a_token_of_the_operator_or_in_a_cookie_or_a_query(server: CoordinatorProcess) -> None:
    token = RSA.sign(claims(f"actor:{ACTOR}"))
    call = {"jsonrpc": "2.0", "id": 1, "method": "context.load", "params": {"id": CONTEXT}}
    with httpx.Client(base_url=server.http, timeout=60) as http:
        assert http.get("/metrics", headers={"authorization": f"Bearer {token}"}).status_code == 401
        for cookie in (f"herocoordinator={token}", f"__Host-herocoordinator={token}"):
            own = {"cookie": cookie, "origin": server.http, "sec-fetch-site": "same-origin"}
            assert http.post("/", headers=own, json=call).status_code == 401
        for member in ("token", "access_token", "jwt"):
            assert http.post("/", params={member: token}, json=call).status_code == 401
    with caller(server, "ws") as one:
        assert one.code("auth.login", {"ticket": token}) == NOBODY
        assert one.code("auth.login", {"principal": "actor:7", "nonce": "x", "signature": token[:90]}) == NOBODY
        assert one.code("token.revoke", {"id": token[:32]}) in (NOBODY, INVALID)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["operator-token-file", "metrics-token-file"])
def test_a_jwt_in_a_file_of_tokens_gives_nobody_anything(tmp_path: Path, how: str) -> None:
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(RSA.sign(claims("actor:7")))
    flags = ("--data-dir", str(tmp_path / "data"), "--auth", "keys", f"--{how}", str(file))
    if how == "operator-token-file":
        refused = herocoordinator("serve", *flags, *ANY_PORTS)
        assert refused.returncode == 1
        assert "holds no token" in refused.stderr
        return
    with coordinator(*flags) as running, httpx.Client(base_url=running.http) as http:
        assert http.get("/metrics", headers={"authorization": f"Bearer {file.read_text()}"}).status_code == 401
        refused_call = http.post(
            "/",
            headers={"authorization": f"Bearer {file.read_text()}"},
            json={"jsonrpc": "2.0", "id": 1, "method": "context.list"},
        )
        assert refused_call.status_code == 401
        assert "--jwt-keys" in refused_call.text  # no provider is known here


@pytest.mark.slow
def test_a_connection_ends_when_its_jwt_expires_and_what_was_made_by_it_does(
    server: CoordinatorProcess, doors: Doors
) -> None:
    said = claims(f"actor:{ACTOR}", exp=int(time.time()) + 4)
    token = ED.sign(said)
    with caller(server, "ws", token) as one, caller(server, "http", token) as http:
        assert one.result("context.load", {"id": CONTEXT})["id"] == CONTEXT
        made = http.result("token.create", {"label": "child", "expires_in": 1000})
        assert made["expires_at"] <= said["exp"]
        session = httpx.post(
            f"{server.http}/session", headers={"authorization": f"Bearer {token}", "origin": server.http}
        )
        assert session.status_code == 200
        assert session.json()["expires_at"] <= said["exp"]

        assert "login is over" in one.note("auth.ended", SOON)["reason"]

        assert time.time() >= said["exp"]
        with pytest.raises(ConnectionClosed):
            one.next_reply(SOON)
        assert http.code("context.load", {"id": CONTEXT}) == NOBODY
    assert any("expired" in detail for detail in doors.refusals(token))


def test_the_audit_log_tells_of_sessions_and_has_no_jwt(
    server: CoordinatorProcess, directory: Path, http: httpx.Client
) -> None:
    token, origin = RSA.sign(claims(f"actor:{ACTOR}")), {"origin": server.http}
    begun = http.post("/session", headers={"authorization": f"Bearer {token}", **origin})
    cookie = begun.headers["set-cookie"].partition(";")[0]
    http.cookies.clear()
    assert http.delete("/session", headers={"cookie": cookie, **origin}).status_code == 204
    assert http.post("/session", headers={"authorization": f"Bearer {token}x", **origin}).status_code == 401

    def lines() -> list[tuple[str, Any]]:
        text = (directory / "audit").read_text()
        assert token[:20] not in text
        assert cookie.partition("=")[2] not in text
        read = [json.loads(line) for line in text.splitlines()]
        return [(line["principal"], line["outcome"]) for line in read if line["method"] == "session"]

    began = time.monotonic()
    while lines()[-3:] != [(f"actor:{ACTOR}", "ok"), (f"actor:{ACTOR}", "ok"), ("nobody", NOBODY)]:
        assert time.monotonic() - began < SOON, lines()
        time.sleep(0.05)


def ends(one: Caller, http: Caller) -> None:
    """A connection and what is sent over HTTP are nobody's soon."""
    assert "login is over" in one.note("auth.ended", SOON)["reason"]
    began = time.monotonic()
    while "error" not in http.call("auth.whoami", {}):
        assert time.monotonic() - began < SOON
        time.sleep(0.02)


def test_a_revoked_actor_is_refused_with_a_jwt_too(server: CoordinatorProcess, operator: Caller, doors: Doors) -> None:
    id = next(_ids)
    operator.result("actor.create", callers.actor(id))
    token = EC.sign(claims(f"actor:{id}"))
    with caller(server, "ws", token) as one, caller(server, "http", token) as http:
        assert one.result("auth.whoami", {})["principal"] == f"actor:{id}"
        assert http.result("auth.whoami", {})["principal"] == f"actor:{id}"

        operator.result("actor.revoke", {"id": id})

        ends(one, http)
    assert all("revoked" in detail for detail in doors.refusals(EC.sign(claims(f"actor:{id}", jti="again"))))


def test_a_key_that_leaves_the_file_ends_what_it_has_signed(server: CoordinatorProcess, keys_file: Path) -> None:
    token = LEAVING.sign(claims(f"actor:{ACTOR}"))
    with caller(server, "ws", token) as one, caller(server, "http", token) as http:
        made = http.result("token.create", {"label": "child"})["token"]
        with caller(server, "ws", made) as child:
            new = keys_file.with_suffix(".new")
            new.write_text(jwks(RSA, EC, ED))

            new.replace(keys_file)

            ends(one, http)
            assert "login is over" in child.note("auth.ended", SOON)["reason"]
    with caller(server, "ws", RSA.sign(claims(f"actor:{ACTOR}"))) as other:
        assert other.result("context.load", {"id": CONTEXT})["id"] == CONTEXT


@pytest.mark.slow
def test_without_the_extra_the_start_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(jwks(RSA))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "jwt.py").write_text("raise ImportError('there is no such library')")
    flags = ("--jwt-keys", str(tmp_path / "keys"), "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
    where = os.pathsep.join([str(tmp_path / "lib"), *filter(None, [os.environ.get("PYTHONPATH")])])

    refused = herocoordinator(
        "serve", "--data-dir", str(tmp_path / "data"), "--auth", "keys", *flags, *ANY_PORTS, env={"PYTHONPATH": where}
    )

    assert refused.returncode == 1
    assert "herocoordinator[jwt]" in refused.stderr
