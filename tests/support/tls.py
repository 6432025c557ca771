"""Certificates for tests, in files as a coordinator reads them."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

__all__ = ["Files"]


class Files:
    """A CA, a certificate it signed for localhost, and a CA for clients, below a directory.

    Attributes:
        certificate, key, client_ca: paths.
        flags: of `serve`, without client certificates.
    """

    def __init__(self, directory: Path) -> None:
        self.authority = trustme.CA()
        self.client_authority = trustme.CA()
        self.certificate = directory / "cert.pem"
        self.key = directory / "key.pem"
        self.client_ca = directory / "clients.pem"
        self.client_authority.cert_pem.write_to_path(str(self.client_ca))
        self.renew()

    @property
    def flags(self) -> tuple[str, ...]:
        return "--tls-cert", str(self.certificate), "--tls-key", str(self.key)

    @property
    def settings(self) -> dict[str, Path]:
        """The same, as an App in the test's own loop gets them."""
        return {"tls_cert": self.certificate, "tls_key": self.key}

    def renew(self) -> str:
        """Put another certificate of the same CA in place. Returns its serial number as `ssl` writes it."""
        issued = self.authority.issue_cert("localhost", "127.0.0.1", "::1")
        issued.cert_chain_pems[0].write_to_path(str(self.certificate))
        issued.private_key_pem.write_to_path(str(self.key))
        return self.serial

    @property
    def serial(self) -> str:
        """The serial number of the certificate in the file."""
        decoded: dict[str, str] = ssl._ssl._test_decode_cert(str(self.certificate))  # type: ignore[attr-defined]
        return decoded["serialNumber"]

    def trust(self, *, identity: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """A client's context that trusts the coordinator, and shows a certificate of its own if given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.authority.configure_trust(context)
        if identity is not None:
            identity.configure_cert(context)
        return context
