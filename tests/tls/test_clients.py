"""Clients nobody here has written, over TLS; and those who do not speak it, or not well enough."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trio
from websockets.sync.client import connect

from coordinator.client import connect as our_client
from tests.support.clients import request
from tests.support.records import fresh_id
from tests.support.server import CoordinatorProcess
from tests.support.tls import Files

CALL = json.dumps(request("context.load", {"id": 900_000}, 1))
NOT_FOUND = -32001


def address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def shaken(url: str, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    """A connection after the handshake."""
    raw = socket.create_connection(address(url), 30)
    try:
        return context.wrap_socket(raw, server_hostname="localhost", session=session)
    except BaseException:
        raw.close()
        raise


def post(connection: ssl.SSLSocket, body: str = CALL) -> bytes:
    """What comes back for a POST, as far as one small reply goes."""
    head = (
        f"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    connection.sendall((head + body).encode())
    received = b""
    while b"\r\n\r\n" not in received or not received.endswith(b"}"):
        data = connection.recv(65536)
        assert data, received
        received += data
    return received


def test_the_log_names_the_urls(secure: CoordinatorProcess) -> None:
    assert secure.http.startswith("https://127.0.0.1:")
    assert secure.ws.startswith("wss://127.0.0.1:")


@pytest.mark.parametrize("is_http2", [False, True])
def test_httpx_calls_and_looks_at_pages(secure: CoordinatorProcess, files: Files, is_http2: bool) -> None:
    with httpx.Client(base_url=secure.http, verify=files.trust(), http2=is_http2) as http:
        for page in ("/healthz", "/readyz", "/metrics", "/openrpc.json"):
            answer = http.get(page)
            assert answer.status_code == 200
            assert answer.http_version == ("HTTP/2" if is_http2 else "HTTP/1.1")
        for _ in range(3):
            answer = http.post("/", content=CALL, headers={"content-type": "application/json"})
            assert answer.json()["error"]["code"] == NOT_FOUND


def test_websockets_calls(secure: CoordinatorProcess, files: Files) -> None:
    with connect(secure.ws, ssl=files.trust()) as websocket:
        for _ in range(3):
            websocket.send(CALL)
            assert json.loads(websocket.recv(30))["error"]["code"] == NOT_FOUND


def test_our_own_client_gets_large_records_whole(secure: CoordinatorProcess, files: Files) -> None:
    context_id, size = fresh_id(), 700_000

    async def run() -> None:
        async with our_client(secure.ws, ssl_context=files.trust()) as client:
            job = {"id": 1, "caller_id": 7, "context_id": context_id, "script": "x" * size, "script_type": "Python"}
            rest = {"timeout": 60, "retries": 0, "env_vars": {}, "prerequisites": [], "depends": []}
            await client.call("job.create", {"context_id": context_id, "job": {**job, **rest}})
            loaded = await client.call("job.load", {"context_id": context_id, "caller_id": 7, "id": 1})
            assert loaded["script"] == "x" * size

    trio.run(run)


@pytest.mark.parametrize("options", [["--http1.1"], ["--http2"], ["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3"]])
def test_curl_calls(secure: CoordinatorProcess, files: Files, tmp_path: Path, options: list[str]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    authority = tmp_path / "ca.pem"
    files.authority.cert_pem.write_to_path(str(authority))

    done = subprocess.run(
        [
            "curl",
            "-sS",
            *options,
            "--cacert",
            authority,
            "-H",
            "content-type: application/json",
            "-d",
            CALL,
            secure.http,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["error"]["code"] == NOT_FOUND


def s_client(server: CoordinatorProcess, *options: str) -> subprocess.Popen[bytes]:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl on this machine")
    host, port = address(server.http)
    return subprocess.Popen(
        ["openssl", "s_client", "-connect", f"{host}:{port}", "-quiet", "-no_ign_eof", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
    )


def test_new_keys_asked_for_in_the_middle_change_nothing(secure: CoordinatorProcess) -> None:
    """`K` has openssl send a key update that asks for ours as well (TLS 1.3, RFC 8446 section 4.6.3)."""
    with s_client(secure, "-tls1_3") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for _ in range(3):
                process.stdin.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
                received = b""
                while b'"ok"}' not in received:
                    data = process.stdout.read(65536)
                    assert data, received
                    received += data
                process.stdin.write(b"K\n")
                while b"KEYUPDATE" not in received:
                    received += process.stdout.read(65536)
        finally:
            process.kill()


def test_renegotiation_is_refused(secure: CoordinatorProcess) -> None:
    """`R` has openssl ask for it (TLS 1.2)."""
    with s_client(secure, "-tls1_2") as process:
        try:
            output, _ = process.communicate(b"R\n", timeout=60)
        finally:
            process.kill()
    assert b"no renegotiation" in output


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("front_end", ["http", "ws"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_versions_are_refused(
    secure: CoordinatorProcess, files: Files, front_end: str, version: ssl.TLSVersion
) -> None:
    context = files.trust()
    context.set_ciphers("ALL:@SECLEVEL=0")  # or this side would not even offer it
    context.minimum_version = context.maximum_version = version

    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        shaken(getattr(secure, front_end), context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_is_spoken_is_agreed_on(secure: CoordinatorProcess, files: Files, version: ssl.TLSVersion) -> None:
    chosen = {}
    for front_end in ("http", "ws"):
        for offered in (["h2", "http/1.1"], ["http/1.1"], []):
            context = files.trust()
            context.minimum_version = context.maximum_version = version
            if offered:
                context.set_alpn_protocols(offered)
            with shaken(getattr(secure, front_end), context) as connection:
                chosen[front_end, *offered] = connection.selected_alpn_protocol()
    assert chosen == {
        ("http", "h2", "http/1.1"): "h2",
        ("http", "http/1.1"): "http/1.1",
        ("http",): None,
        ("ws", "h2", "http/1.1"): "http/1.1",
        ("ws", "http/1.1"): "http/1.1",
        ("ws",): None,
    }


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_taken_up_again_where_the_same_process_serves(
    secure: CoordinatorProcess, files: Files, version: ssl.TLSVersion
) -> None:
    context = files.trust()
    context.minimum_version = context.maximum_version = version
    reused = []
    sessions: list[ssl.SSLSession | None] = [None, None]
    for _ in range(7):  # two workers are given connections in turn
        with shaken(secure.http, context, sessions[-2]) as connection:
            assert b" 200 " in post(connection)
            reused.append(connection.session_reused)
            sessions.append(connection.session)
    assert any(reused)


@pytest.mark.parametrize("front_end", ["http", "ws"])
def test_http_without_tls_is_told_so(secure: CoordinatorProcess, front_end: str) -> None:
    host, port = address(getattr(secure, front_end))

    answer = httpx.get(f"http://{host}:{port}/healthz")

    assert answer.status_code == 400
    assert "this port speaks TLS" in answer.text


@pytest.mark.parametrize("front_end", ["http", "ws"])
def test_floods_of_handshakes_that_lead_nowhere_harm_nobody(
    secure: CoordinatorProcess, files: Files, front_end: str
) -> None:
    beginnings = [
        b"",
        b"\x16",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 400,
        b"\xff\xd8 no TLS",
        b"\x80",
    ]
    sockets = [socket.create_connection(address(getattr(secure, front_end)), 30) for _ in range(120)]
    try:
        for number, each in enumerate(sockets):
            each.sendall(beginnings[number % len(beginnings)])

        test_websockets_calls(secure, files)
        assert httpx.get(f"{secure.http}/healthz", verify=files.trust(), timeout=30).status_code == 200
    finally:
        for each in sockets:
            each.close()
    assert not [entry for entry in secure.logs if entry.get("level") in ("error", "critical") or "exception" in entry]


def test_a_client_that_cannot_trust_us_leaves_no_trace(secure: CoordinatorProcess) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{secure.http}/healthz")

    assert not [entry for entry in secure.logs if entry.get("level") in ("error", "critical") or "exception" in entry]
