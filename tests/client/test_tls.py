"""TLS as the client, the commands and the runner see it: whom they trust, and what they say of whom they do not."""

from __future__ import annotations

import datetime
import json
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme

from coordinator.client import CannotConnect, call_once, connect
from tests.client.conftest import context, port_of
from tests.support.commands import herocoordinator
from tests.support.proxy import proxied
from tests.support.runner import RunnerProcess, job, new_context, runner, submit
from tests.support.server import CoordinatorProcess

HOUR = datetime.timedelta(hours=1)
TRANSPORTS = ["http", "ws"]

Issue = Callable[[trustme.CA], trustme.LeafCert]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> str:
    """The file of the authority's certificate."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def good(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("127.0.0.1", "localhost", "::1")


def tls_of(certificate: trustme.LeafCert) -> ssl.SSLContext:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(tls)
    return tls


@asynccontextmanager
async def secured(server: CoordinatorProcess, transport: str, tls: ssl.SSLContext) -> AsyncIterator[str]:
    """The URL of the coordinator behind something that speaks TLS for it."""
    async with proxied(port_of(getattr(server, transport)), tls) as proxy:
        yield f"{transport}s://127.0.0.1:{proxy.port}"


async def refusal(url: str, ca: str | None = None) -> str:
    """Why one call there is not possible."""
    with trio.fail_after(60):
        with pytest.raises(CannotConnect) as refused:
            await call_once(url, "rpc.discover", ca=ca)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_certificate_of_an_authority_in_the_file_is_accepted(
    server: CoordinatorProcess, authority: trustme.CA, ca: str, transport: str
) -> None:
    async with secured(server, transport, tls_of(good(authority))) as url:
        assert (await call_once(url, "rpc.discover", ca=ca))["openrpc"]
        assert (await call_once(url.replace("127.0.0.1", "localhost"), "rpc.discover", ca=ca))["openrpc"]


async def test_the_client_that_stays_connects_with_a_file_or_a_context(
    server: CoordinatorProcess, authority: trustme.CA, ca: str, context_id: int
) -> None:
    own = ssl.create_default_context()
    authority.configure_trust(own)
    async with secured(server, "ws", tls_of(good(authority))) as url:
        async with connect(url, ca=ca) as client, connect(url, ssl_context=own) as other:
            await client.context_create(context=context(context_id))
            assert (await other.context_load(id=context_id)).id == context_id


async def test_a_file_and_a_context_are_refused_together(ca: str) -> None:
    with pytest.raises(ValueError, match="both"):
        async with connect("wss://127.0.0.1", ca=ca, ssl_context=ssl.create_default_context()):
            pass


def self_signed(_: trustme.CA) -> trustme.LeafCert:
    return trustme.CA().issue_cert("127.0.0.1")


REFUSED: list[tuple[Issue, str]] = [
    (self_signed, r"its certificate is refused: .*trusted here.*--ca FILE"),
    (lambda authority: authority.issue_cert("hero.example"), r"its certificate is refused: it is not for '127.0.0.1'"),
    (
        lambda authority: authority.issue_cert(
            "127.0.0.1", not_before=datetime.datetime.now() - 48 * HOUR, not_after=datetime.datetime.now() - 24 * HOUR
        ),
        "its certificate is refused: it has expired",
    ),
    (
        lambda authority: authority.issue_cert(
            "127.0.0.1", not_before=datetime.datetime.now() + 24 * HOUR, not_after=datetime.datetime.now() + 48 * HOUR
        ),
        "its certificate is refused: it is not valid yet",
    ),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("issue", "why"), REFUSED, ids=["untrusted", "other name", "expired", "future"])
async def test_a_certificate_is_refused_for_a_reason_that_is_given(
    server: CoordinatorProcess, authority: trustme.CA, ca: str, transport: str, issue: Issue, why: str
) -> None:
    async with secured(server, transport, tls_of(issue(authority))) as url:
        with pytest.raises(CannotConnect, match=why):
            await call_once(url, "rpc.discover", ca=ca)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_without_a_file_the_systems_authorities_count(
    server: CoordinatorProcess, authority: trustme.CA, transport: str
) -> None:
    async with secured(server, transport, tls_of(good(authority))) as url:
        assert "--ca FILE" in await refusal(url)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_certificate_that_is_asked_for_is_named(
    server: CoordinatorProcess, authority: trustme.CA, ca: str, transport: str
) -> None:
    tls = tls_of(good(authority))
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(tls)
    async with secured(server, transport, tls) as url:  # it closes without an alert
        assert "does it ask for a client certificate?" in await refusal(url, ca=ca)
        own = ssl.create_default_context(cafile=ca)
        authority.issue_cert("runner").configure_cert(own)
        assert (await call_once(url, "rpc.discover", ssl_context=own))["openrpc"]

    with alerting(tls) as port:
        assert "it asks for a client certificate" in await refusal(f"{transport}s://127.0.0.1:{port}", ca=ca)


@contextmanager
def alerting(tls: ssl.SSLContext) -> Iterator[int]:
    """The port of a server that refuses one handshake with the alert that says why, as OpenSSL's servers do."""

    def serve() -> None:
        plain, _ = listener.accept()
        with tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False) as client:
            with pytest.raises(ssl.SSLError):
                client.do_handshake()
            while os.read(client.fileno(), 65536):  # what is unread when it closes would make a reset of it
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_clear_text_and_tls_taken_for_each_other_are_told_apart(
    server: CoordinatorProcess, authority: trustme.CA, ca: str, transport: str
) -> None:
    clear = getattr(server, transport)
    assert "it speaks no TLS" in await refusal(clear.replace(transport, transport + "s", 1), ca=ca)
    async with secured(server, transport, tls_of(good(authority))) as url:
        assert f"{transport}s://" in (await refusal(url.replace(transport + "s", transport, 1))).partition(": ")[2]


# -- commands


async def run(*arguments: str, **env: str) -> tuple[int, str, str]:
    """A command's exit status and what it prints."""
    done = await trio.to_thread.run_sync(partial(herocoordinator, *arguments, env=env))
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_call_over_tls_trusts_the_file_of_its_option_or_variable(
    server: CoordinatorProcess, authority: trustme.CA, ca: str, transport: str
) -> None:
    async with secured(server, transport, tls_of(good(authority))) as url:
        by_option = await run("call", "context.list", "--url", url, "--ca", ca)
        by_variable = await run("call", "context.list", HEROCOORDINATOR_URL=url, HEROCOORDINATOR_CA=ca)
        refused = await run("call", "context.list", "--url", url)

    assert by_option[0] == by_variable[0] == 0
    assert "items" in json.loads(by_option[1])
    assert refused[0] == 3
    assert "its certificate is refused" in refused[2]
    assert refused[2].count("\n") == 1


async def test_flow_commands_over_tls_trust_the_file_and_repeat_it_in_their_hints(
    server: CoordinatorProcess, authority: trustme.CA, ca: str, tmp_path: Path
) -> None:
    (tmp_path / "flow.toml").write_text("[jobs.one]\nscript = 'print(1)'\n")
    number = str(new_context())
    async with secured(server, "ws", tls_of(good(authority))) as url:
        env = {"HEROCOORDINATOR_URL": url.replace("wss", "https"), "HEROCOORDINATOR_CA": ca}
        submitted = await run("flow", "run", "--no-follow", "--context", number, str(tmp_path / "flow.toml"), **env)
        await run("flow", "cancel", submitted[1].strip(), "--context", number, **env)
        ended = await run("flow", "retry", submitted[1].strip(), "--context", number, **env)
        cancelled = await run("flow", "cancel", submitted[1].strip(), "--context", number, **env)
        followed = await run("flow", "follow", submitted[1].strip(), "--context", number, **env)

    assert submitted[0] == ended[0] == cancelled[0] == 0, (submitted, ended, cancelled)
    assert f"--url {env['HEROCOORDINATOR_URL']} --ca {ca}" in followed[2]


@pytest.mark.parametrize("content", [None, "no certificate"])
@pytest.mark.parametrize("command", [("call", "context.list"), ("flow", "list"), ("runner", "--context", "1")])
async def test_a_file_without_certificates_is_a_wrong_command_line(
    tmp_path: Path, content: str | None, command: tuple[str, ...]
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)

    status, _, stderr = await run(*command, "--url", "wss://127.0.0.1:1", "--ca", str(path))

    assert status == 2
    assert "--ca" in stderr
    assert "Traceback" not in stderr


async def test_a_runner_works_over_tls_and_says_whom_it_does_not_trust(
    server: CoordinatorProcess, authority: trustme.CA, ca: str
) -> None:
    number = new_context()
    tls = tls_of(good(authority))
    async with secured(server, "ws", tls) as url, connect(server.ws) as client:
        await client.context_create(context=context(number))
        trusting = await trio.to_thread.run_sync(lambda: RunnerProcess(url, number, arguments=("--ca", ca)))
        flow = await submit(client, number, job(1, "print('over TLS')"))
        await flow.ended()
        assert (await flow.results())["1"]["stdout"] == "over TLS\n"
        assert await trio.to_thread.run_sync(trusting.stop) == 0

        with runner(url, number, wait=False) as distrusting:
            with trio.fail_after(60):
                while not any("its certificate is refused" in entry["event"] for entry in distrusting.logs):
                    await trio.sleep(0.05)
