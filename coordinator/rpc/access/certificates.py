"""Whom a client's certificate names: the principal in a URI of its subject alternative names."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final

import trio

from coordinator.rpc.access.principals import BY_CERTIFICATE, Principal, read_principal
from coordinator.rpc.access.tokens import NOTHING, Shown

__all__ = ["certified_by", "principal_of"]

URI: Final = "herocoordinator:"  # before the principal's name, as in herocoordinator:actor:7


def certified_by(stream: trio.abc.Stream) -> Shown:
    """What the client of a connection has shown in its handshake; nothing if that was no TLS, or named nobody."""
    certificate = getattr(stream, "peer_certificate", None)
    principal = None if certificate is None else principal_of(certificate())
    if principal is None:
        return NOTHING
    return Shown(f"certificate:{principal.name}:{principal.expires_at:.0f}", certified=principal)


def principal_of(certificate: Mapping[str, Any] | None) -> Principal | None:
    """Whom a verified certificate names, as `ssl` describes it. One that names several names nobody."""
    if certificate is None:
        return None
    names = [name for kind, name in certificate.get("subjectAltName", ()) if kind == "URI" and name.startswith(URI)]
    named = read_principal(names[0].removeprefix(URI)) if len(names) == 1 else None
    if named is None:
        return None
    expires_at = ssl.cert_time_to_seconds(certificate["notAfter"])
    return Principal(named.kind, named.id, named.context_id, key=BY_CERTIFICATE, expires_at=expires_at)
