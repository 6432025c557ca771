"""The operator's tokens: lines of a file that nobody else can read. Two are valid while one takes the other's place."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

import structlog

from coordinator.rpc.access.tokens import digest, new_token
from coordinator.secretfiles import Unusable, read_secret, write_secret

__all__ = ["TokenFile", "ensure_token_file", "rotate"]

log = structlog.get_logger("coordinator.access")

VALID: Final = 2


def ensure_token_file(path: Path) -> None:
    """Make the file with a new token unless there is one. Raises Unusable."""
    try:
        write_secret(path, f"{new_token()}\n".encode())
    except FileExistsError:
        _digests(path)
    except OSError as error:
        raise Unusable(
            f"cannot make the operator's token file {path}: {(error.strerror or str(error)).lower()}"
        ) from None
    else:
        log.info("the operator's token was made; it may do everything", file=str(path))


def rotate(path: Path) -> str:
    """Add a new token to the file, in front; the one before stays valid until the next time. Returns the new one.

    Raises Unusable, OSError.
    """
    token = new_token()
    lines = [token, *read_secret(path, "operator's token").decode().split()][:VALID]
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return token


class TokenFile:
    """The tokens of a file, which is read again when it changes. One that cannot be read has none.

    Args:
        what: whose tokens they are, for the log.
    """

    def __init__(self, path: Path | None, what: str) -> None:
        self._path = path
        self._what = what
        self._seen: tuple[int, int, int] | None = None
        self._is_told = False  # that it cannot be used
        self._digests: frozenset[str] = frozenset()
        self.look()

    def has(self, digest: str) -> bool:
        """Whether a token of this digest is valid."""
        return bool(digest) and any(secrets.compare_digest(digest, valid) for valid in self._digests)

    def look(self) -> None:
        """Read the file if it has changed."""
        if self._path is None:
            return
        try:
            state = os.stat(self._path)
            seen = state.st_mtime_ns, state.st_ino, state.st_mode
            if seen == self._seen:
                return
            self._seen, self._digests = seen, _digests(self._path)
            self._is_told = False
        except (OSError, Unusable) as error:
            if not self._is_told:
                log.error(f"the file of {self._what} cannot be used: none of its tokens is good now", reason=str(error))
            self._seen, self._digests, self._is_told = None, frozenset(), True


def _digests(path: Path) -> frozenset[str]:
    """Raises Unusable."""
    lines = read_secret(path, "token").decode(errors="replace").split()
    digests = {digest(line) for line in lines[:VALID]}
    if not digests or "" in digests:
        raise Unusable(f"{path} holds no token: there must be one or two lines hc_…")
    return frozenset(digests)
