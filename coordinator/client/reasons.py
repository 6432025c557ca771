"""Why there is no connection, in one line that tells a person what to do about it."""

from __future__ import annotations

import http
import os
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import h11
from trio_websocket import ConnectionRejected, HandshakeError

from coordinator.client.address import Address

__all__ = [
    "DENIALS",
    "Unreachable",
    "describe_status",
    "describe_unexpected",
    "first_of",
    "is_denial",
    "is_refusal",
    "one_line",
    "reason_of",
]

MAX_WORDS: Final = 300
"""Characters of a server's own words that are shown."""
DENIALS: Final = (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN)
"""Statuses by which a server says that it does not let us in."""

_TRUST_HINT: Final = "trust it with --ca FILE (in Python, `ca`)"

# X509_V_ERR_… of OpenSSL, which the ssl module has no names for.
_UNTRUSTED: Final = {
    18: f"it is self-signed and not trusted here; {_TRUST_HINT}",
    19: f"it comes with an authority that is not trusted here; {_TRUST_HINT}",
    20: f"no authority that is trusted here has signed it; {_TRUST_HINT}",
    21: f"no authority that is trusted here has signed it; {_TRUST_HINT}",
    9: "it is not valid yet; is the clock right?",
    10: "it has expired",
    23: "it has been revoked",
    26: "it is not for servers",
}
_OTHER_NAME: Final = (62, 64)  # of a host, of an IP address

_TLS_ALERTS: Final = {
    "CERTIFICATE_REQUIRED": "it asks for a client certificate, and there is none",
    "UNKNOWN_CA": "it does not trust our client certificate",
    "BAD_CERTIFICATE": "it does not accept our client certificate",
    "HANDSHAKE_FAILURE": "it shares no TLS version, cipher or certificate with us",
    "PROTOCOL_VERSION": "it shares no TLS version with us",
    "UNSUPPORTED_PROTOCOL": "it shares no TLS version with us",
    "UNRECOGNIZED_NAME": "it has no certificate for this name",
}
_CLEAR_TEXT: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
_CLEAR_SCHEME: Final = {"https": "http", "wss": "ws"}
_SECURE_SCHEME: Final = {"http": "https", "ws": "wss"}

_STATUS_HINTS: Final = {
    401: "it asks for credentials: --key FILE --as actor:ID, or --token-file FILE",
    403: "it does not let us in",
    407: "a proxy asks for credentials",
    429: "it is asked too often",
    502: "a proxy cannot reach the coordinator",
    503: "it accepts no more clients at the moment, or a proxy cannot reach the coordinator",
    504: "a proxy cannot reach the coordinator",
}


class Unreachable(HandshakeError):
    """There is no connection, for the reason the message gives.

    Attributes:
        status: of the HTTP response that was no WebSocket; 0 if there was none.
    """

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.status = status


def reason_of(error: BaseException, address: Address) -> str:
    """What is wrong with the connection to this address, in one line, without the address itself."""
    causes = list(_causes(error))
    for cause in causes:
        if known := _known(cause, address):
            return known
    errors = [cause for cause in causes if isinstance(cause, OSError) and cause.errno]
    if errors:
        return _words_of(errors) + _port_hint(errors, address)
    return one_line(next((words for cause in causes if (words := str(cause))), type(error).__name__))


def first_of(error: BaseException) -> BaseException:
    """The first exception in a group of them, or itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def is_refusal(error: BaseException) -> bool:
    """Whether there is no connection because nothing listens there, at none of the addresses."""
    errors = [cause for cause in _causes(error) if isinstance(cause, OSError) and cause.errno]
    return bool(errors) and all(isinstance(cause, ConnectionRefusedError) for cause in errors)


def is_denial(error: BaseException) -> bool:
    """Whether there is no connection because what listens there does not let us in."""
    statuses = (getattr(cause, name, 0) for cause in _causes(error) for name in ("status_code", "status"))
    return any(status in DENIALS for status in statuses)


def _known(cause: BaseException, address: Address) -> str:
    """What this one cause says by itself; empty if that is not much."""
    match cause:
        case Unreachable():
            words = str(cause)
        case ConnectionRejected():
            words = describe_status(cause.status_code, cause.headers, cause.body or b"", address)
        case h11.ProtocolError():
            words = "what listens there is no HTTP server"
        case ssl.SSLError():
            words = _of_tls(cause, address)
        case socket.gaierror():
            words = f"there is no host {address.host!r}: {cause.strerror}"
        case _:
            words = ""
    return words


def describe_status(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, address: Address) -> str:
    """What an HTTP response that was not hoped for says."""
    try:
        phrase = f" {http.HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    fields = {name.lower(): value.decode("latin-1") for name, value in headers}
    hint = _status_hint(status, fields, address)
    is_page = b"html" in fields.get(b"content-type", "").encode() or body.lstrip().startswith(b"<")
    words = "" if is_page else one_line(body.decode(errors="replace"))
    return f"it answered {status}{phrase}" + (f": {words}" if words else "") + (f" ({hint})" if hint else "")


def describe_unexpected(first: bytes, address: Address) -> str:
    """What a peer that began like this, or with nothing, and then closed the connection may be."""
    secure = _SECURE_SCHEME.get(address.scheme)
    if first.startswith(b"\x15\x03") and secure:
        return f"it speaks TLS: the URL begins with {secure}://"
    if first and not first.startswith(b"HTTP/"):
        return "what listens there is no HTTP server"
    if first:
        return "it closed the connection in the handshake"
    if secure:
        return f"it closed the connection in the handshake; if it speaks TLS, the URL begins with {secure}://"
    return "it closed the connection in the handshake, right after that of TLS; does it ask for a client certificate?"


def one_line(text: str) -> str:
    """Foreign words, fit to be shown: printable, on one line, not long."""
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return text if len(text) <= MAX_WORDS else text[: MAX_WORDS - 1] + "…"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and instead of a group what is in it, outermost first."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _causes(part)
    else:
        yield error
    if error.__cause__ is not None:
        yield from _causes(error.__cause__)


def _of_tls(error: ssl.SSLError, address: Address) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_NAME:
            why = f"it is not for {address.host!r}"
        else:
            why = _UNTRUSTED.get(error.verify_code, error.verify_message)
        return f"its certificate is refused: {one_line(why)}"
    reason = error.reason or ""
    if reason in _CLEAR_TEXT:
        return f"it speaks no TLS: the URL begins with {_CLEAR_SCHEME.get(address.scheme, address.scheme)}://"
    for name, words in _TLS_ALERTS.items():
        if reason.endswith(name):
            return words
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "it closed the connection in the TLS handshake"
    return "TLS does not work: " + one_line(reason.replace("_", " ").lower() or str(error))


def _status_hint(status: int, fields: Mapping[bytes, str], address: Address) -> str:
    if status in _STATUS_HINTS:
        return _STATUS_HINTS[status]
    if 300 <= status < 400 and b"location" in fields:
        return f"it has moved to {one_line(fields[b'location'])}"
    if address.is_websocket:
        return "this is no WebSocket of a coordinator, or a proxy before it passes no WebSockets on"
    if status == http.HTTPStatus.UPGRADE_REQUIRED:
        scheme = "wss" if address.is_secure else "ws"
        return f"it serves WebSockets only: the URL begins with {scheme}://"
    if status in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.METHOD_NOT_ALLOWED):
        return "this is no coordinator's HTTP API"
    return ""


def _words_of(errors: Iterable[OSError]) -> str:
    return ", ".join(dict.fromkeys(os.strerror(error.errno or 0) for error in errors))


def _port_hint(errors: Iterable[OSError], address: Address) -> str:
    if address.names_port or not any(isinstance(error, ConnectionRefusedError | TimeoutError) for error in errors):
        return ""
    standard = 443 if address.is_secure else 80
    return f" (the URL names no port, so this is the coordinator's own; a proxy's would be {standard})"
