"""`herocoordinator cert`: a certificate for a first try of TLS, and the CA that clients trust it by."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shlex
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import click

from coordinator.cli.exit_codes import fail
from coordinator.settings import Settings

__all__ = ["Certificate", "cert", "make_certificate"]

DEFAULT_NAMES: Final = ("localhost", "127.0.0.1", "::1")
DEFAULT_DAYS: Final = 365
PRIVATE: Final = 0o600
PUBLIC: Final = 0o644
_CLOCKS_DIFFER: Final = timedelta(hours=1)
_LONGEST_COMMON_NAME: Final = 64  # RFC 5280, ub-common-name


class Certificate(NamedTuple):
    """In PEM. Nobody has the CA's own key any more: it signs nothing else."""

    authority: bytes
    certificate: bytes
    key: bytes


def make_certificate(names: tuple[str, ...], days: int) -> Certificate:
    """A certificate for these host names and IP addresses, signed by a CA made for it.

    Clients and browsers that trust the CA trust the certificate; trusting a self-signed one that is no CA is more than
    many of them can do.

    Raises:
        ValueError: a name can be neither.
    """
    # Nothing else needs the library, and importing it takes a while.
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, text[:_LONGEST_COMMON_NAME])])

    def general_name(name: str) -> x509.GeneralName:
        try:
            return x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            pass
        if ":" in name or "/" in name or not name:
            raise ValueError(f"{name!r} is neither a host name nor an IP address")
        return x509.DNSName(name.encode("idna").decode("ascii") if not name.isascii() else name)

    alternatives = x509.SubjectAlternativeName([general_name(name) for name in names])
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = named(f"HeroCoordinator CA for {names[0]}")
    now = datetime.now(UTC)

    def usage(*, is_authority: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=not is_authority,
            key_cert_sign=is_authority,
            crl_sign=is_authority,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )

    def builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCKS_DIFFER)
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )

    authority = (
        builder(authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(is_authority=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        builder(named(names[0]), key.public_key())
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(signer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return Certificate(
        authority.public_bytes(pem),
        certificate.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME|IP]...")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("tls"),
    show_default=True,
    help="Where ca.pem, cert.pem and key.pem go.",
)
@click.option("--days", type=click.IntRange(1, 3650), default=DEFAULT_DAYS, show_default=True, help="It is valid for.")
@click.option("--force", is_flag=True, help="Overwrite the files if they are there.")
def cert(names: tuple[str, ...], directory: Path, days: int, force: bool) -> None:
    """Make a certificate for a first try of TLS.

    It is for the host names and IP addresses given, or else for localhost, 127.0.0.1 and ::1. Clients trust it by
    ca.pem: give it to --ca, or import it to a browser as an authority. The key of that CA is not kept.

    \b
    herocoordinator cert
    herocoordinator cert coordinator.example.org 192.0.2.7
    """
    names = names or DEFAULT_NAMES
    paths = [directory / name for name in ("ca.pem", "cert.pem", "key.pem")]
    if not force and (there := [str(path) for path in paths if path.exists()]):
        fail(f"{', '.join(there)} exist already; --force overwrites them")
    try:
        made = make_certificate(names, days)
    except (ValueError, UnicodeError) as error:
        raise click.BadParameter(str(error), param_hint="NAME") from error
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, content, mode in zip(paths, made, (PUBLIC, PUBLIC, PRIVATE), strict=True):
            _write(path, content, mode)
    except OSError as error:
        fail(f"cannot write to {directory}: {(error.strerror or str(error)).lower()}")
    click.echo(_next_steps(names, *paths))


def _write(path: Path, content: bytes, mode: int) -> None:
    """Put a file in place as a whole. Nobody but us may read it before its mode is set. Raises OSError."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise


def _next_steps(names: tuple[str, ...], authority: Path, certificate: Path, key: Path) -> str:
    """The commands that use it."""
    defaults = Settings.model_fields
    host = f"[{names[0]}]" if ":" in names[0] else names[0]
    serving = ["herocoordinator", "serve", "--tls-cert", str(certificate), "--tls-key", str(key)]
    if not _is_loopback(names[0]):
        serving += ["--api-http-ip", "0.0.0.0", "--api-ws-ip", "0.0.0.0", "--auth", "keys"]
    elif names[0] == "::1":
        serving += ["--api-http-ip", "::1", "--api-ws-ip", "::1"]
    trust = ["--url", f"wss://{host}:{defaults['api_ws_port'].default}", "--ca", str(authority)]
    health = ["curl", "--cacert", str(authority), f"https://{host}:{defaults['api_http_port'].default}/healthz"]
    return "\n".join(
        [
            f"{authority}, {certificate} and {key} are made, for {', '.join(names)}. Serve with",
            "",
            f"  {shlex.join(serving)}",
            "",
            "and reach it with",
            "",
            f"  {shlex.join(health)}",
            f"  {shlex.join(['herocoordinator', 'runner', '--context', '1', *trust])}",
            f"  {shlex.join(['herocoordinator', 'flow', 'list', *trust])}",
        ]
    )


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
