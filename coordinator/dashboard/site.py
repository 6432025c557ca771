"""What GET answers for the dashboard: its page at `/`, its parts in `/assets/`, and `/dashboard.json`."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final, NamedTuple

__all__ = ["CONTENT_SECURITY_POLICY", "File", "Reply", "Site", "load_site"]

Headers = tuple[tuple[bytes, bytes], ...]

ASSETS: Final = "/assets/"
"""Where the parts are. Their names hold a digest of their content, so what is at a name never changes."""

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",  # and with it the WebSocket of the same host and port
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # nothing on the page makes HTML of text
        "trusted-types 'none'",
    )
)

_FOREVER: Final = b"public, max-age=31536000, immutable"
_ASK_EACH_TIME: Final = b"no-cache"
_KINDS: Final = {
    "css": b"text/css; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "json": b"application/json",
    "svg": b"image/svg+xml",
}
_SAFE: Final[Headers] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_OF_A_PAGE: Final[Headers] = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)


class Reply(NamedTuple):
    """A response; its headers are all but its length."""

    status: int
    headers: Headers
    body: bytes


class File(NamedTuple):
    """One that is served.

    Attributes:
        kind: its content type.
        body: its bytes.
        compressed: the same by gzip.
        etag: names its content.
        is_forever: what is at its path never changes.
    """

    kind: bytes
    body: bytes
    compressed: bytes
    etag: bytes
    is_forever: bool


class Site:
    """Answers for the dashboard.

    Args:
        files: by path.
    """

    def __init__(self, files: Mapping[str, File]) -> None:
        self._files = files

    def reply(self, path: str, request: Mapping[bytes, bytes]) -> Reply | None:
        """The response to a GET with these headers, or None if the dashboard is not what it asks for.

        At `/` that is who accepts HTML by name, as browsers do; programs get the page that is there for them.
        """
        file = self._files.get(path)
        if file is None or (path == "/" and not _accepts(request.get(b"accept", b""), b"text/html")):
            return None
        vary = b"accept, accept-encoding" if path == "/" else b"accept-encoding"
        is_compressed = _accepts(request.get(b"accept-encoding", b""), b"gzip")
        etag = b'"%b-gzip"' % file.etag if is_compressed else b'"%b"' % file.etag
        headers: Headers = (
            (b"etag", etag),
            (b"cache-control", _FOREVER if file.is_forever else _ASK_EACH_TIME),
            (b"vary", vary),
            *_SAFE,
            *(_OF_A_PAGE if file.kind == _KINDS["html"] else ()),
        )
        if _names(request.get(b"if-none-match", b""), etag):
            return Reply(304, headers, b"")
        headers += ((b"content-type", file.kind),)
        if is_compressed:
            return Reply(200, (*headers, (b"content-encoding", b"gzip")), file.compressed)
        return Reply(200, headers, file.body)


def load_site(about: bytes) -> Site:
    """The built files of this package.

    Args:
        about: what `/dashboard.json` shows.
    """
    compressed = gzip.compress(about, 9, mtime=0)
    told = File(_KINDS["json"], about, compressed, _digest(about), is_forever=False)
    return Site({**_built(), "/dashboard.json": told})


@cache
def _built() -> Mapping[str, File]:
    """The files that were built, read once in a process."""
    static = resources.files(__package__) / "static"
    files = {"/": _file(static.joinpath("index.html").read_bytes(), "html", None)}
    contents = {entry.name: entry.read_bytes() for entry in static.joinpath("assets").iterdir()}
    for name, body in contents.items():
        stem, _, suffix = name.rpartition(".")
        if suffix != "gz":
            files[ASSETS + name] = _file(body, suffix, contents.get(f"{stem}.{suffix}.gz"))
    return files


def _file(body: bytes, suffix: str, compressed: bytes | None) -> File:
    """A built file. Small ones are compressed here, the others when they are built."""
    is_forever = suffix != "html"
    return File(_KINDS[suffix], body, compressed or gzip.compress(body, 9, mtime=0), _digest(body), is_forever)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:20].encode()


def _accepts(header: bytes, wanted: bytes) -> bool:
    """Whether a list of what is accepted names this, and not only to refuse it."""
    for entry in header.lower().split(b","):
        name, *parameters = (part.strip() for part in entry.split(b";"))
        if name == wanted:
            weights = [value.partition(b"=")[2] for value in parameters if value.startswith(b"q=")]
            return not weights or weights[0].strip(b"0.") != b""
    return False


def _names(header: bytes, etag: bytes) -> bool:
    """Whether If-None-Match has this; a proxy may have made it a weak one."""
    entries = [entry.strip().removeprefix(b"W/") for entry in header.split(b",")]
    return etag in entries or entries == [b"*"]
