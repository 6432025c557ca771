"""`herocoordinator cert`: what it makes, and what it does not overwrite."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path

import pytest

from coordinator.server.tls import read_material
from coordinator.settings import File, Settings
from tests.support.commands import herocoordinator

pytestmark = pytest.mark.slow

FILES = ("ca.pem", "cert.pem", "key.pem")


def made(directory: Path, *arguments: str) -> str:
    """Run it; what it prints."""
    done = herocoordinator("cert", "--directory", str(directory), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def trusts(directory: Path, name: str) -> bool:
    """Whether a client that has the CA, and looks as strictly as OpenSSL can, accepts the server under this name."""
    material = read_material(Settings(tls_cert=File(directory / "cert.pem"), tls_key=File(directory / "key.pem")))
    assert material is not None
    client = ssl.create_default_context(cafile=directory / "ca.pem")
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs:
            with contextlib.suppress(OSError):
                material.context(["http/1.1"]).wrap_socket(theirs, server_side=True).close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours, client.wrap_socket(ours, server_hostname=name):
            return True
    except ssl.SSLCertVerificationError:
        return False
    finally:
        thread.join(30)


def test_by_default_it_is_for_this_machine(tmp_path: Path) -> None:
    printed = made(tmp_path / "new" / "tls")

    directory = tmp_path / "new" / "tls"
    assert sorted(path.name for path in directory.iterdir()) == sorted(FILES)
    assert (directory / "key.pem").stat().st_mode & 0o777 == 0o600
    assert all(trusts(directory, name) for name in ("localhost", "127.0.0.1", "::1"))
    assert not trusts(directory, "example.org")
    assert f"herocoordinator serve --tls-cert {directory}/cert.pem --tls-key {directory}/key.pem\n" in printed
    assert f"--url wss://localhost:9653 --ca {directory}/ca.pem\n" in printed


def test_it_is_for_the_names_and_addresses_given(tmp_path: Path) -> None:
    printed = made(tmp_path, "bücher.example", "192.0.2.7", "2001:db8::1")

    assert all(trusts(tmp_path, name) for name in ("bücher.example", "192.0.2.7", "2001:db8::1"))
    assert not trusts(tmp_path, "localhost")
    assert "--api-http-ip 0.0.0.0 --api-ws-ip 0.0.0.0" in printed  # or nobody else could reach it


def test_what_is_there_stays_unless_forced(tmp_path: Path) -> None:
    made(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in FILES}

    refused = herocoordinator("cert", "--directory", str(tmp_path))

    assert refused.returncode == 1
    assert "--force" in refused.stderr
    assert "key.pem" in refused.stderr
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == before

    (tmp_path / "key.pem").chmod(0o644)
    made(tmp_path, "--force")
    assert all((tmp_path / name).read_bytes() != before[name] for name in FILES)
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert trusts(tmp_path, "localhost")


@pytest.mark.parametrize("name", ["localhost:9652", "https://localhost", "10.0.0.0/8", ""])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    refused = herocoordinator("cert", "--directory", str(tmp_path / "tls"), name)

    assert refused.returncode == 2
    assert "neither a host name nor an IP address" in refused.stderr
    assert not (tmp_path / "tls").exists()
