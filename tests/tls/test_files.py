"""What is said of a certificate that cannot be used: one line with the setting and the file."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog.testing
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from coordinator.server.tls import HTTP_PROTOCOLS, MAX_FILE_BYTES, CannotUseTls, Material, read_material
from coordinator.settings import Settings
from tests.support.commands import herocoordinator
from tests.support.tls import Files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def read(files: Files, *, client_ca: bool = False) -> Material | None:
    return read_material(Settings(**files.settings, tls_client_ca=files.client_ca if client_ca else None))


def replace_by_directory(files: Files) -> None:
    files.key.unlink()
    files.key.mkdir()


def swap(files: Files) -> None:
    certificate, key = files.certificate.read_bytes(), files.key.read_bytes()
    files.certificate.write_bytes(key)
    files.key.write_bytes(certificate)


def encrypt(files: Files) -> None:
    key = load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))


def encrypt_as_of_old(files: Files) -> None:
    key = load_pem_private_key(files.key.read_bytes(), None)
    form = PrivateFormat.TraditionalOpenSSL
    files.key.write_bytes(key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret")))


def reverse_chain(files: Files) -> None:
    files.certificate.write_bytes(files.authority.cert_pem.bytes() + files.certificate.read_bytes())


def exchange_key(files: Files) -> None:
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(str(files.key))


def damage(path: Callable[[Files], Path]) -> Callable[[Files], None]:
    def spoil(files: Files) -> None:
        lines = path(files).read_text().splitlines()
        path(files).write_text("\n".join([lines[0], "AAAA" + lines[1][4:], *lines[2:]]))

    return spoil


def certificate(files: Files) -> Path:
    return files.certificate


def key(files: Files) -> Path:
    return files.key


FAULTS: list[tuple[Callable[[Files], object], str, Callable[[Files], Path], str]] = [
    (lambda files: files.certificate.unlink(), "--tls-cert", certificate, "no such file"),
    (lambda files: files.key.unlink(), "--tls-key", key, "no such file"),
    (replace_by_directory, "--tls-key", key, "is a directory"),
    (lambda files: files.certificate.write_text(" \n"), "--tls-cert", certificate, "is empty"),
    (lambda files: files.key.write_text(""), "--tls-key", key, "is empty"),
    (lambda files: files.certificate.write_bytes(b"x" * (MAX_FILE_BYTES + 1)), "--tls-cert", certificate, "is larger"),
    (lambda files: files.certificate.write_bytes(b"\x30\x82"), "--tls-cert", certificate, "must be in PEM"),
    (lambda files: files.key.write_bytes(b"\x30\x82"), "--tls-key", key, "must be in PEM"),
    (swap, "--tls-cert", certificate, "it holds a private key"),
    (lambda files: files.key.write_bytes(files.certificate.read_bytes()), "--tls-key", key, "it holds a certificate"),
    (encrypt, "--tls-key", key, "is encrypted"),
    (encrypt_as_of_old, "--tls-key", key, "is encrypted"),
    (exchange_key, "--tls-key", key, "is not the key of the certificate"),
    (reverse_chain, "--tls-cert", certificate, "wrong order"),
    (damage(certificate), "--tls-cert", certificate, "broken certificate"),
    (damage(key), "--tls-key", key, "broken private key"),
]


@pytest.mark.parametrize(("spoil", "flag", "path", "reason"), FAULTS)
def test_what_cannot_be_used_is_named(
    files: Files, spoil: Callable[[Files], object], flag: str, path: Callable[[Files], Path], reason: str
) -> None:
    spoil(files)

    with pytest.raises(CannotUseTls) as caught:
        read(files)
    text = str(caught.value)
    assert text.startswith(f"{flag}: ")
    assert str(path(files)) in text
    assert reason in text
    assert "\n" not in text


@pytest.mark.parametrize(("content", "reason"), [(b"", "is empty"), (b"none", "holds no certificate")])
def test_a_file_without_cas_is_named(files: Files, content: bytes, reason: str) -> None:
    files.client_ca.write_bytes(content)

    with pytest.raises(CannotUseTls, match=f"--tls-client-ca: .*{reason}"):
        read(files, client_ca=True)


def test_a_file_that_may_not_be_read_is_named(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("coordinator.server.tls.read_file", refuse)  # root may read everything

    with pytest.raises(CannotUseTls, match=r"--tls-cert: cannot read .*: permission denied"):
        read(files)


@pytest.mark.parametrize(
    ("since", "until", "event"),
    [(-30, -1, "a certificate has expired"), (1, 30, "a certificate is not valid yet")],
)
def test_one_that_is_out_of_date_is_used_with_a_warning(files: Files, since: int, until: int, event: str) -> None:
    now = datetime.datetime.now(datetime.UTC)
    issued = files.authority.issue_cert(
        "localhost",
        not_before=now + datetime.timedelta(days=since),
        not_after=now + datetime.timedelta(days=until),
    )
    issued.cert_chain_pems[0].write_to_path(str(files.certificate))
    issued.private_key_pem.write_to_path(str(files.key))

    with structlog.testing.capture_logs() as logged:
        assert read(files) is not None
    (entry,) = logged
    assert entry["event"] == event
    assert entry["log_level"] == "warning"
    assert entry["file"] == str(files.certificate)


def test_a_chain_is_used_as_a_whole_and_text_around_it_does_not_matter(files: Files) -> None:
    between = files.authority.create_child_ca()
    issued = between.issue_cert("localhost")
    chain = b"subject: none\n".join(blob.bytes() for blob in issued.cert_chain_pems)
    files.certificate.write_bytes("# Größe\n".encode() + chain)
    issued.private_key_pem.write_to_path(str(files.key))
    files.client_ca.write_bytes("# für Kunden\n".encode() + files.client_authority.cert_pem.bytes())

    material = read(files, client_ca=True)

    assert material is not None
    assert material.certificates.count(b"BEGIN CERTIFICATE") == len(issued.cert_chain_pems) == 2
    context = material.context(HTTP_PROTOCOLS)
    assert context.cert_store_stats()["x509_ca"] == 1


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["--tls-cert", "a"], "--tls-cert needs --tls-key"),
        (["--tls-key", "a"], "--tls-key needs --tls-cert"),
        (["--tls-client-ca", "a"], "--tls-client-ca needs --tls-cert and --tls-key"),
        (
            ["--tls-cert", "a", "--tls-key", "b", "--tls-client-certs", "required"],
            "--tls-client-certs required needs --tls-client-ca",
        ),
        (["--tls-cert", "nowhere.pem", "--tls-key", "b"], "--tls-cert: cannot read nowhere.pem: no such file"),
    ],
)
def test_serve_says_in_one_line_what_does_not_fit(tmp_path: Path, given: list[str], reason: str) -> None:
    done = herocoordinator("serve", "--data-dir", str(tmp_path), *given)

    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("herocoordinator: ")
    assert reason in line


@pytest.mark.parametrize(
    ("client_ca", "mode", "asked"),
    [
        (None, None, "none"),
        (Path("ca.pem"), None, "required"),
        (Path("ca.pem"), "optional", "optional"),
        (Path("ca.pem"), "none", "none"),
    ],
)
def test_a_ca_for_clients_makes_their_certificates_required_unless_told_otherwise(
    client_ca: Path | None, mode: str | None, asked: str
) -> None:
    settings = Settings(
        tls_cert=Path("cert.pem"), tls_key=Path("key.pem"), tls_client_ca=client_ca, tls_client_certs=mode
    )

    assert settings.client_certificates == asked
    assert settings.is_tls
