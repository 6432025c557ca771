"""The coordinator's certificate: read and checked from files, made into TLS contexts, and replaced while serving.

Files are read once, in the process that has the addresses. Workers get their contents, so that all serve the same
certificate and one that is started later does not depend on what the files hold by then.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import trio
from cryptography import x509

from coordinator.secretfiles import read_file
from coordinator.settings import Settings
from coordinator.tlsstream import Secure, TlsStream, in_the_clear, serve_tls

__all__ = ["CannotUseTls", "Material", "Tls", "certificates_in", "certified_names", "read_material", "reread"]

log = structlog.get_logger("coordinator.tls")

MAX_FILE_BYTES: Final = 32 * 1024  # all three go to a worker in one message, and through a pipe to OpenSSL
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2: forward secrecy, and what HTTP/2 allows
HTTP_PROTOCOLS: Final = ("h2", "http/1.1")
WS_PROTOCOLS: Final = ("http/1.1",)
SHAKEN_AT_ONCE: Final = 4  # handshakes that may compute in one pass of the loop

_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.S)
_KEY: Final = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----", re.S)
_VERIFY: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class CannotUseTls(Exception):
    """A file is not what its setting says; the text names both."""


@dataclass(frozen=True, slots=True)
class Material:
    """What the files hold, in PEM, and how clients are asked for certificates.

    Attributes:
        certificates: ours first, then those between it and its root.
        key: its private key.
        client_authorities: who may have signed clients' certificates.
        client_certificates: none, optional or required.
    """

    certificates: bytes
    key: bytes
    client_authorities: bytes
    client_certificates: str

    def context(self, protocols: Sequence[str]) -> ssl.SSLContext:
        """For connections on which these may be spoken. Raises ssl.SSLError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_ciphers(CIPHERS)
        context.set_alpn_protocols(list(protocols))
        with _as_file(self.certificates) as certificates, _as_file(self.key) as key:
            context.load_cert_chain(certificates, key, password="")
        if self.client_authorities:
            context.load_verify_locations(cadata=self.client_authorities.decode("ascii"))
            context.verify_mode = _VERIFY[self.client_certificates]
        return context


def certified_names(material: Material) -> list[str]:
    """The names our certificate is for; no wildcards."""
    certificate = x509.load_pem_x509_certificate(material.certificates)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name for name in names.get_values_for_type(x509.DNSName) if "*" not in name]


class Tls:
    """Secures the connections of one process.

    Args:
        material: None if it serves without TLS.
    """

    def __init__(self, material: Material | None) -> None:
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}
        self._is_used = material is not None
        self._handshakes: set[trio.CancelScope] = set()
        self._turns = trio.Semaphore(SHAKEN_AT_ONCE)
        self._is_stopping = False
        if material is not None:
            self.replace(material)

    def replace(self, material: Material) -> None:
        """Serve connections accepted from now on with this. Those there are stay as they are."""
        self._contexts = {protocols: material.context(protocols) for protocols in (HTTP_PROTOCOLS, WS_PROTOCOLS)}

    @property
    def http(self) -> Secure:
        """For connections to the HTTP port."""
        return partial(self._secure, HTTP_PROTOCOLS) if self._is_used else in_the_clear

    @property
    def ws(self) -> Secure:
        """For connections to the WebSocket port."""
        return partial(self._secure, WS_PROTOCOLS) if self._is_used else in_the_clear

    def stop(self) -> None:
        """Give up handshakes under way: their clients have asked for nothing yet."""
        self._is_stopping = True
        for scope in self._handshakes:
            scope.cancel()

    async def _secure(self, protocols: tuple[str, ...], transport: trio.SocketStream) -> TlsStream:
        if not self._is_stopping:
            with trio.CancelScope() as scope:
                self._handshakes.add(scope)
                try:
                    return await serve_tls(transport, self._contexts[protocols], self._turns)
                finally:
                    self._handshakes.discard(scope)
        raise trio.BrokenResourceError("the coordinator is stopping")


def read_material(settings: Settings, *, warn: bool = True) -> Material | None:
    """What the settings' files hold now; None if there is to be no TLS. `warn`, in the log, of an expired certificate.

    Raises:
        CannotUseTls: they cannot be used.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    certificates = certificates_in("--tls-cert", settings.tls_cert)
    key = _key("--tls-key", settings.tls_key)
    authorities = [] if settings.tls_client_ca is None else certificates_in("--tls-client-ca", settings.tls_client_ca)
    parsed = _check_pair(settings.tls_cert, certificates, settings.tls_key, key)
    if warn:
        _warn_of_dates(settings.tls_cert, parsed)
    material = Material(
        certificates=b"\n".join(certificates) + b"\n",
        key=key + b"\n",
        client_authorities=b"\n".join(authorities),
        client_certificates=settings.client_certificates,
    )
    try:
        material.context(HTTP_PROTOCOLS)
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise CannotUseTls(f"--tls-cert: {settings.tls_cert} cannot be used: {reason}") from error
    return material


def _read(flag: str, path: Path) -> bytes:
    try:
        content, _ = read_file(path, MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CannotUseTls(f"{flag}: cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    if not content.strip():
        raise CannotUseTls(f"{flag}: {path} is empty")
    if len(content) > MAX_FILE_BYTES:
        raise CannotUseTls(f"{flag}: {path} is larger than {MAX_FILE_BYTES} bytes; it may hold only what is needed")
    return content


def certificates_in(flag: str, path: Path) -> list[bytes]:
    """Those that the file of a setting holds, in PEM. Raises CannotUseTls."""
    content = _read(flag, path)
    found = _CERTIFICATE.findall(content)
    if not found:
        swapped = "it holds a private key" if _KEY.search(content) else "it must be in PEM"
        raise CannotUseTls(f"{flag}: {path} holds no certificate; {swapped}")
    return found


def _key(flag: str, path: Path) -> bytes:
    content = _read(flag, path)
    found = _KEY.search(content)
    if found is None:
        swapped = "it holds a certificate" if _CERTIFICATE.search(content) else "it must be in PEM"
        raise CannotUseTls(f"{flag}: {path} holds no private key; {swapped}")
    if b"ENCRYPTED" in found[0]:
        raise CannotUseTls(f"{flag}: the key in {path} is encrypted; it must be one without a passphrase")
    return found[0]


def _check_pair(
    certificate_path: Path, certificates: list[bytes], key_path: Path, key: bytes
) -> list[x509.Certificate]:
    """The certificates. Raises CannotUseTls unless the key is that of the first."""
    from cryptography import x509  # noqa: PLC0415 - only a server with TLS needs it
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key  # noqa: PLC0415

    def read(pem: bytes) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(pem)
        except ValueError as error:
            raise CannotUseTls(f"--tls-cert: {certificate_path} holds a broken certificate") from error

    parsed = [read(pem) for pem in certificates]
    public = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    try:
        ours = load_pem_private_key(key, None).public_key().public_bytes(*public)
    except (ValueError, TypeError) as error:
        raise CannotUseTls(f"--tls-key: {key_path} holds a broken private key") from error
    matches = [certificate.public_key().public_bytes(*public) == ours for certificate in parsed]
    if not any(matches):
        raise CannotUseTls(f"--tls-key: {key_path} is not the key of the certificate in --tls-cert {certificate_path}")
    if not matches[0]:
        raise CannotUseTls(
            f"--tls-cert: {certificate_path} is in the wrong order: the certificate of the key must come first"
        )
    return parsed


def _warn_of_dates(path: Path, certificates: list[x509.Certificate]) -> None:
    for certificate in certificates:
        until, since = certificate.not_valid_after_utc, certificate.not_valid_before_utc
        if not since <= datetime.now(UTC) <= until:
            log.warning(
                "a certificate has expired" if since <= datetime.now(UTC) else "a certificate is not valid yet",
                file=str(path),
                subject=certificate.subject.rfc4514_string(),
                valid=f"{since:%Y-%m-%d} to {until:%Y-%m-%d}",
            )


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path that OpenSSL, which reads only files, can read `content` from once. It never gets to a disk."""
    readable, writable = os.pipe()
    # A pipe's buffer may be smaller than the content, and nobody reads before this yields.
    writer = threading.Thread(target=_write_all, args=(writable, content), daemon=True)
    writer.start()
    try:
        yield f"/dev/fd/{readable}"
    finally:
        os.close(readable)
        writer.join()


def _write_all(descriptor: int, content: bytes) -> None:
    with open(descriptor, "wb") as pipe, contextlib.suppress(BrokenPipeError):
        pipe.write(content)


def reread(settings: Settings) -> Material | None:
    """What is in the settings' files now, after SIGHUP. None, and a line in the log, if that changes nothing."""
    if not settings.is_tls:
        log.info("SIGHUP: there is no certificate to read again, see --tls-cert")
        return None
    try:
        material = read_material(settings)
    except CannotUseTls as error:
        log.error("SIGHUP: the certificate stays as it is", reason=str(error))
        return None
    log.info("SIGHUP: the certificate was read again", file=str(settings.tls_cert))
    return material
