"""Whom a client's certificate names is who calls, on both transports."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from websockets.exceptions import ConnectionClosed, InvalidStatus

from coordinator.client import Credentials
from coordinator.secretfiles import Unusable, write_secret
from tests.access import callers
from tests.access.callers import Caller, Key
from tests.support.commands import herocoordinator
from tests.support.runner import runner
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.tls import Files

NOBODY, FORBIDDEN = -32002, -32003
CONTEXT, ACTOR, OTHER, RUNNER = 1, 7, 8, 7
SOON = 20.0
WHO = {"jsonrpc": "2.0", "id": 1, "method": "auth.whoami"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(files: Files) -> Iterator[CoordinatorProcess]:
    clients = ("--tls-client-ca", str(files.client_ca), "--tls-client-certs", "optional")
    data = files.certificate.parent / "data"
    with coordinator("--data-dir", str(data), "--auth", "keys", *files.flags, *clients) as running:
        with caller(running, "http", files, token=callers.operator_token(data)) as operator:
            for id in (ACTOR, OTHER):
                operator.result("actor.create", callers.actor(id, Key().public))
            operator.result("context.create", callers.context(CONTEXT, admins=[ACTOR], executors=[], readers=[]))
            operator.result("runner.create", callers.runner(CONTEXT, RUNNER))
        yield running


def certified(files: Files, *uris: str, seconds: float = 3600) -> ssl.SSLContext:
    """A client's context with a certificate of the clients' CA that names these."""
    context = files.trust()
    context.load_cert_chain(certificate(files, *uris, seconds=seconds))
    return context


def certificate(files: Files, *uris: str, seconds: float = 3600) -> Path:
    """A file with such a certificate and its key."""
    authority = x509.load_pem_x509_certificate(files.client_authority.cert_pem.bytes())
    signing = load_pem_private_key(files.client_authority.private_key_pem.bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "actor:8")]))  # which counts for nothing
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(seconds=seconds))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        built = built.add_extension(x509.SubjectAlternativeName([*names, x509.DNSName("actor")]), critical=False)
    signed = built.sign(signing, hashes.SHA256())  # type: ignore[arg-type] # one that signs
    path = files.certificate.parent / f"{signed.serial_number}.pem"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_secret(path, pem + signed.public_bytes(Encoding.PEM))
    return path


def caller(
    server: CoordinatorProcess,
    transport: str,
    files: Files,
    secure: ssl.SSLContext | None = None,
    token: str | None = None,
) -> Caller:
    return Caller(server, transport, token, secure=secure or files.trust())


def test_a_certificate_is_who_it_names(server: CoordinatorProcess, files: Files) -> None:
    for name, method, params in (
        (f"actor:{ACTOR}", "context.load", {"id": CONTEXT}),
        (f"runner:{CONTEXT}:{RUNNER}", "runner.load", {"context_id": CONTEXT, "id": RUNNER}),
    ):
        secure = certified(files, f"herocoordinator:{name}", "https://elsewhere.example/actor:8")
        for transport in ("http", "ws"):
            with caller(server, transport, files, secure) as one:
                for _ in range(2):
                    assert one.result("auth.whoami", {})["principal"] == name
                    assert one.result(method, params)["id"] in (CONTEXT, RUNNER)
        with httpx.Client(base_url=server.http, verify=secure, http1=False, http2=True) as http:
            assert http.post("/", json=WHO).json()["result"]["principal"] == name


@pytest.mark.parametrize(
    "uris",
    [
        (),
        ("actor:7",),
        ("herocoordinator:operator",),
        ("herocoordinator:actor:07",),
        ("herocoordinator:actor:7 ",),
        ("herocoordinator:actor:7/",),
        ("HEROCOORDINATOR:actor:7",),
        ("herocoordinator://actor:7",),
        ("herocoordinator:actor:7", "herocoordinator:actor:8"),
        ("herocoordinator:actor:7", "herocoordinator:operator"),
    ],
    ids=str,
)
def test_a_certificate_that_names_nobody_is_nobody(
    server: CoordinatorProcess, files: Files, uris: tuple[str, ...]
) -> None:
    secure = certified(files, *uris)
    for transport in ("http", "ws"):
        with caller(server, transport, files, secure) as one:
            assert one.result("auth.whoami", {})["principal"] == "stranger"
            assert one.code("context.load", {"id": CONTEXT}) == NOBODY


def test_a_token_counts_before_a_certificate(server: CoordinatorProcess, files: Files) -> None:
    secure = certified(files, f"herocoordinator:actor:{ACTOR}")
    operator = callers.operator_token(files.certificate.parent / "data")
    for transport in ("http", "ws"):
        with caller(server, transport, files, secure, operator) as one:
            assert one.result("auth.whoami", {})["principal"] == "operator"
    with caller(server, "http", files, secure, "hc_" + "a" * 43) as one:
        assert one.code("context.load", {"id": CONTEXT}) == NOBODY
    with pytest.raises(InvalidStatus) as refused:
        caller(server, "ws", files, secure, "hc_" + "a" * 43)
    assert refused.value.response.status_code == 401


@pytest.mark.slow
def test_one_that_was_revoked_or_has_expired_ends(server: CoordinatorProcess, files: Files) -> None:
    secure = certified(files, f"herocoordinator:actor:{OTHER}")
    short = certified(files, f"herocoordinator:actor:{ACTOR}", seconds=6)
    data = files.certificate.parent / "data"
    with (
        caller(server, "ws", files, secure) as one,
        caller(server, "http", files, secure) as http,
        caller(server, "ws", files, short) as expiring,
        caller(server, "http", files, token=callers.operator_token(data)) as operator,
    ):
        assert one.result("auth.whoami", {})["principal"] == f"actor:{OTHER}"
        assert http.result("auth.whoami", {})["principal"] == f"actor:{OTHER}"
        until = expiring.result("auth.whoami", {})["expires_at"]
        made = expiring.result("token.create", {"label": "child", "expires_in": 1000})
        assert made["expires_at"] <= until

        operator.result("actor.revoke", {"id": OTHER})

        for ended in (one, expiring):
            assert "login is over" in ended.note("auth.ended", SOON)["reason"]
            with pytest.raises(ConnectionClosed):
                ended.next_reply(SOON)
        assert "error" in http.call("auth.whoami", {})
    with pytest.raises(InvalidStatus) as refused:
        caller(server, "ws", files, secure)
    assert refused.value.response.status_code == 401


def test_a_session_over_tls_has_a_cookie_for_tls_alone(server: CoordinatorProcess, files: Files) -> None:
    with caller(server, "http", files, certified(files, f"herocoordinator:actor:{ACTOR}")) as one:
        token = one.result("token.create", {"label": "x"})["token"]
    shown, value = {"authorization": f"Bearer {token}"}, ""
    clear = server.http.replace("https://", "http://")

    def sent(name: str) -> list[tuple[str, str]]:
        return [("cookie", "a=b"), ("cookie", f"{name}={value}"), ("origin", server.http)]

    for http2 in (False, True):  # browsers speak HTTP/2 over TLS, and may send a cookie in a header of its own
        with httpx.Client(base_url=server.http, verify=files.trust(), http1=not http2, http2=http2) as http:
            assert http.post("/session", headers={"origin": clear, **shown}).status_code == 403
            begun = http.post("/session", headers={"origin": server.http, **shown})
            assert begun.status_code == 200
            assert begun.headers["set-cookie"].startswith("__Host-herocoordinator=hc_")
            assert "; Secure" in begun.headers["set-cookie"]
            http.cookies.clear()
            value = begun.headers["set-cookie"].partition(";")[0].partition("=")[2]
            for name, who in (("__Host-herocoordinator", f"actor:{ACTOR}"), ("herocoordinator", "stranger")):
                assert http.post("/", headers=sent(name), json=WHO).json()["result"]["principal"] == who
            assert http.delete("/session", headers=sent("__Host-herocoordinator")).status_code == 204
            assert "error" in http.post("/", headers=sent("__Host-herocoordinator"), json=WHO).json()


def test_commands_and_runners_show_one(server: CoordinatorProcess, files: Files, tmp_path: Path) -> None:
    mine = certificate(files, f"herocoordinator:actor:{ACTOR}")
    authority = tmp_path / "ca.pem"
    files.authority.cert_pem.write_to_path(str(authority))
    trusted = ("--ca", str(authority), "--client-cert")
    for url in (server.http, server.ws):
        who = herocoordinator("whoami", "--url", url, *trusted, str(mine))
        assert who.stdout.startswith(f"actor:{ACTOR}"), who.stderr
    its = certificate(files, f"herocoordinator:runner:{CONTEXT}:{RUNNER}")
    with runner(server.ws, CONTEXT, arguments=("--id", str(RUNNER), *trusted, str(its))) as running:
        flow = tmp_path / "flow.toml"
        flow.write_text(f'context = {CONTEXT}\ncaller = {ACTOR}\n[jobs.a]\ntype = "Python"\nscript = "print(1)"\n')
        ran = herocoordinator("flow", "run", str(flow), "--plain", "--url", server.ws, *trusted, str(mine))
        assert ran.returncode == 0, ran.stderr + ran.stdout
        assert running.process.poll() is None


@pytest.mark.parametrize("what", ["others read it", "no key", "another's key", "an encrypted key", "absent"])
def test_a_certificate_that_cannot_be_shown_is_refused_with_the_reason(files: Files, tmp_path: Path, what: str) -> None:
    mine, other = (certificate(files, f"herocoordinator:actor:{ACTOR}") for _ in range(2))
    begins = b"-----BEGIN CERTIFICATE-----"
    key, shown = mine.read_bytes().split(begins)
    file, reason = tmp_path / "client.pem", "there must be a certificate and its key"
    if what == "no key":
        write_secret(file, begins + shown)
    elif what == "another's key":
        write_secret(file, other.read_bytes().split(begins)[0] + begins + shown)
        reason = "its key is not the certificate's"
    elif what == "an encrypted key":
        unlocked = load_pem_private_key(key, None)
        locked = unlocked.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        write_secret(file, locked + begins + shown)
        reason = "is encrypted"
    elif what == "absent":
        reason = "no such file"
    else:
        write_secret(file, mine.read_bytes())
        file.chmod(0o640)
        reason = "chmod 600"

    with pytest.raises(Unusable, match=reason):
        Credentials(certificate=file).check()


def test_no_certificate_is_shown_in_clear_text(files: Files) -> None:
    mine = str(certificate(files, f"herocoordinator:actor:{ACTOR}"))
    for command in (("whoami",), ("runner", "--context", "1")):
        refused = herocoordinator(*command, "--url", "ws://127.0.0.1:1", "--client-cert", mine)

        assert refused.returncode == 2
        assert "over https:// and wss:// only" in refused.stderr
        assert "Traceback" not in refused.stderr
