"""Public keys that can log in: Ed25519, in one of three spellings. Any other text may be stored, and cannot log in."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["PublicKey", "read_key"]

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
_P: Final = 2**255 - 19
_D: Final = (-121665 * pow(121666, -1, _P)) % _P
_SSH: Final = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
_BLANK: Final = " \t\r\n"  # around a key, as the end of the line of a file is, means nothing
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)

# The y of the eight points of small order, for which anybody can make signatures. Their x differs in its sign only.
_OF_ORDER_8: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER: Final = frozenset({0, 1, _P - 1, _OF_ORDER_8, _P - _OF_ORDER_8})


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 key that is fit to log in.

    Attributes:
        raw: its 32 bytes.
    """

    raw: bytes

    @property
    def text(self) -> str:
        """Its one spelling, by which keys are compared."""
        return "ed25519:" + base64.b64encode(self.raw).decode()

    def has_signed(self, text: bytes, signature: str) -> bool:
        """Whether that is its signature, in base64, of the text."""
        try:
            decoded = base64.b64decode(signature, validate=True)
        except (binascii.Error, ValueError):
            return False
        if len(decoded) != SIGNATURE_BYTES:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(decoded, text)
        except (InvalidSignature, ValueError):
            return False
        return True


@lru_cache(1024)
def read_key(text: str) -> PublicKey | None:
    """The key of a record's `pubkey`; None if that is none that can log in."""
    raw = _raw(text)
    return None if raw is None or not _is_sound(raw) else PublicKey(raw)


def _raw(text: str) -> bytes | None:
    text = text.strip(_BLANK)
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    if text.startswith("ed25519:"):
        return _decoded(text.removeprefix("ed25519:"), KEY_BYTES)
    words = text.split(maxsplit=2)
    if len(words) >= 2 and words[0] == "ssh-ed25519":
        blob = _decoded(words[1], len(_SSH) + KEY_BYTES)
        return blob[len(_SSH) :] if blob is not None and blob.startswith(_SSH) else None
    return None


def _decoded(text: str, length: int) -> bytes | None:
    """So many bytes from base64, with its padding or without; None if that is none, or not as it is written."""
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(decoded) != length or base64.b64encode(decoded).decode().rstrip("=") != text.rstrip("="):
        return None
    return decoded


def _is_sound(raw: bytes) -> bool:
    """Whether it is written canonically, is a point of the curve, and is not of small order."""
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y >= _P or y in _SMALL_ORDER:
        return False
    square = y * y % _P
    x_squared = (square - 1) * pow(_D * square + 1, -1, _P) % _P
    return pow(x_squared, (_P - 1) // 2, _P) == 1
