"""The files of --jwt-keys, what each key in them is for, and how often a signature is verified."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
from pydantic import ValidationError

from coordinator.errors import NotLoggedIn
from coordinator.rpc.access import provider, tickets
from coordinator.rpc.access.principals import BY_JWT, Principal, Scope
from coordinator.rpc.access.provider import Provider, read_keys
from coordinator.rpc.access.tokens import read_token
from coordinator.rpc.access.turns import Turns
from coordinator.secretfiles import Unusable
from coordinator.settings import Settings
from tests.support.jwts import AUDIENCE, ISSUER, ProviderKey, claims, jwks

RSA, EC, ED = ProviderKey("rsa"), ProviderKey("ec", "EC"), ProviderKey("ed", "Ed25519")


def verifier(path: Path, *algorithms: str, claim: str = "sub") -> Provider:
    return Provider(path, issuer=ISSUER, audience=AUDIENCE, claim=claim, algorithms=algorithms)


def named(verifies: Provider, token: str) -> Principal:
    """Whom a token means."""
    shown = read_token(token)
    verifies._turns = Turns(provider.VERIFY_EVERY)  # each run has a clock of its own
    found: Principal = trio.run(verifies.principal_of, shown.digest, shown.jwt)
    return found


@pytest.mark.parametrize("key", [RSA, EC, ED], ids=["RSA", "EC", "Ed25519"])
def test_a_key_in_pem_verifies_whatever_name_a_token_gives_it(tmp_path: Path, key: ProviderKey) -> None:
    file = tmp_path / "keys.pem"
    file.write_bytes(b"".join(one.pem for one in (RSA, EC, ED)))

    for header in ({}, {"kid": "any"}, {"kid": ...}):
        assert named(verifier(file), key.sign(claims("actor:7"), **header)).name == "actor:7"
    with pytest.raises(NotLoggedIn):
        named(
            verifier(file),
            ProviderKey("other", {"RS256": "RSA", "ES256": "EC", "EdDSA": "Ed25519"}[key.algorithm]).sign(
                claims("actor:7")
            ),
        )


def test_algorithms_are_pinned(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    for content, algorithms, found in (
        (RSA.pem, (), ["RS256"]),
        (RSA.pem, ("PS512", "ES256"), ["PS512"]),
        (json.dumps(RSA.jwk | {"alg": "RS512"}).encode(), (), ["RS512"]),
        (json.dumps({name: value for name, value in RSA.jwk.items() if name != "alg"}).encode(), (), ["RS256"]),
        (EC.pem, (), ["ES256"]),
        (ED.pem, ("EdDSA",), ["EdDSA"]),
    ):
        file.write_bytes(content)
        assert [algorithm for key in read_keys(file, algorithms) for algorithm in key.algorithms] == found


@pytest.mark.parametrize(
    ("content", "algorithms", "why"),
    [
        (jwks(RSA), ("ES256",), "no public key"),
        (json.dumps(RSA.jwk | {"alg": "RS512"}), ("RS256",), "no public key"),
        (json.dumps(RSA.jwk | {"alg": "none"}), (), "no public key"),
        (json.dumps(RSA.jwk | {"alg": "HS256"}), (), "no public key"),
        (json.dumps(RSA.jwk | {"use": "enc"}), (), "no public key"),
        (json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}), (), "secret"),
        (json.dumps({"keys": [RSA.jwk, {**ED.jwk, "d": "AAAA"}]}), (), "private"),
        ("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----", (), "private"),
        ("-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----", (), "broken"),
        ('{"keys": {}}', (), "list"),
        ('{"keys": [1]}', (), "list"),
        ('{"keys": [{}]}', (), "no public key"),
        ("{", (), "neither"),
        ("", (), "no public key"),
        ("x" * 300_000, (), "larger"),
    ],
)
def test_a_file_that_would_let_in_too_many_or_nobody_is_refused(
    tmp_path: Path, content: str, algorithms: tuple[str, ...], why: str
) -> None:
    (tmp_path / "keys").write_text(content)

    with pytest.raises(Unusable, match=why):
        read_keys(tmp_path / "keys", algorithms)


def test_a_file_that_everybody_writes_or_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(jwks(RSA))
    file.chmod(0o666)
    with pytest.raises(Unusable, match="chmod o-w"):
        read_keys(file)
    with pytest.raises(Unusable, match="is a directory"):
        read_keys(tmp_path)
    with pytest.raises(Unusable, match="no such file"):
        read_keys(tmp_path / "absent")


def test_a_signature_is_verified_once_for_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").write_text(jwks(RSA, EC))
    verifies, looks = verifier(tmp_path / "keys"), []
    decode = jwt.decode

    def counted(*given: Any, **more: Any) -> Any:
        looks.append(given)
        return decode(*given, **more)

    monkeypatch.setattr(jwt, "decode", counted)
    token = RSA.sign(claims("actor:7"))
    for _ in range(3):
        assert named(verifies, token).id == 7
    assert len(looks) == 1
    assert named(verifies, EC.sign(claims("actor:8"))).id == 8
    assert len(looks) == 2


def test_remembered_tokens_are_bounded_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "VERIFIED", 2)
    (tmp_path / "keys").write_text(jwks(ED))
    verifies = verifier(tmp_path / "keys")
    tokens = [ED.sign(claims(f"actor:{id}")) for id in range(5)]
    for token in tokens:
        named(verifies, token)
    assert len(verifies._verified) == 2
    later = time.time() + 700
    monkeypatch.setattr(time, "time", lambda: later)
    assert verifies._known(read_token(tokens[-1]).digest) is None  # so that it is read again, and refused


def test_the_file_is_read_again_and_a_broken_one_is_good_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.write_text(jwks(RSA))
    verifies = verifier(file)
    mark = named(verifies, RSA.sign(claims("actor:7"))).key
    assert mark.startswith(BY_JWT)

    file.write_text('{"keys": [')  # half of it is written
    verifies.look()
    assert verifies.has_key(mark)
    now = time.monotonic() + provider.GRACE + 1
    monkeypatch.setattr(time, "monotonic", lambda: now)
    verifies.look()
    assert not verifies.has_key(mark)
    file.write_text(jwks(RSA, EC))
    verifies.look()
    assert verifies.has_key(mark)
    file.write_text(jwks(EC))
    verifies.look()
    assert not verifies.has_key(mark)
    with pytest.raises(NotLoggedIn):
        named(verifies, RSA.sign(claims("actor:7")))


def test_another_claim_may_name_the_principal(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(jwks(RSA))
    verifies = verifier(tmp_path / "keys", claim="https://hero.example/principal")

    said = claims({"any": "thing"}, **{"https://hero.example/principal": "runner:1:3"})
    assert named(verifies, RSA.sign(said)).name == "runner:1:3"
    with pytest.raises(NotLoggedIn, match=r"hero\.example"):
        named(verifies, RSA.sign(claims("actor:7")))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"jwt_keys": "x", "jwt_issuer": "i"}, "--jwt-audience"),
        ({"jwt_keys": "x", "jwt_audience": "a"}, "--jwt-issuer"),
        ({"jwt_issuer": "i"}, "--jwt-keys"),
        ({"jwt_algorithms": ("RS256",)}, "--jwt-keys"),
        ({"jwt_keys": "x", "jwt_issuer": "i", "jwt_audience": "a", "jwt_algorithms": ("HS256",)}, "HS256"),
        ({"jwt_keys": "x", "jwt_issuer": "i", "jwt_audience": "a", "jwt_algorithms": ("RS256", "none")}, "none"),
        ({"jwt_keys": "x", "jwt_issuer": "i", "jwt_audience": "a", "auth": "none"}, "--auth keys"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Settings(**{"auth": "keys", **given})


def test_a_ticket_is_good_for_30_seconds_and_as_limited_as_who_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    secret, scope = b"s" * 32, Scope(frozenset({2, 1}), is_reading=True)
    principal = Principal("runner", 3, 1, key="k", token="t", parent="p q", expires_at=2e9, scope=scope)
    text, expires_at = tickets.new_ticket(secret, principal)

    read = tickets.read_ticket(secret, text)
    assert read is not None
    assert read.principal == principal
    assert tickets.read_ticket(b"x" * 32, text) is None
    for odd in ("", "x", text[4:], text[:-8], "A" + text[1:], text.replace("_", "/") + "*"):
        assert odd == text or tickets.read_ticket(secret, odd) is None
    monkeypatch.setattr(time, "time", lambda: expires_at - 0.1)
    assert tickets.read_ticket(secret, text) is not None
    monkeypatch.setattr(time, "time", lambda: float(expires_at))
    assert tickets.read_ticket(secret, text) is None
