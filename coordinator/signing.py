"""Logging in with a key, as both sides need it: the text that is signed, and the private key that signs it.

A signature says who logs in, where, for what and until when: each part is preceded by its length, so no two of these
texts are the same, and all begin with a name that no other protocol signs.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Final, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.secretfiles import Unusable, read_secret, write_secret

__all__ = ["Purpose", "Signer", "new_key", "signed_text"]

Purpose = Literal["login", "rotate"]

DOMAIN: Final = "herocoordinator.auth.v1"


def signed_text(
    purpose: Purpose, *, server: str, host: str, principal: str, nonce: str, expires_at: int, keys: tuple[str, ...] = ()
) -> bytes:
    """What a principal signs.

    Args:
        server: as `auth.challenge` names it.
        host: the Host of the request, or of the WebSocket's handshake, in lower case. A server that passes a challenge
            of another one on has another.
        principal: `actor:7`, or `runner:1:3` for runner 3 of context 1.
        nonce, expires_at: as `auth.challenge` gives them.
        keys: the old and the new key, of a rotation.
    """
    parts = (DOMAIN, purpose, server, host.lower(), principal, nonce, str(expires_at), *keys)
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


class Signer:
    """A private key.

    Attributes:
        public: its public key, as records have it.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.public = "ed25519:" + base64.b64encode(raw).decode()

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Signer:
        """The key of a file (PEM, or OpenSSH's own format; without a passphrase).

        Raises:
            Unusable: it cannot be read, others can read it too, or there is no such key in it.
        """
        data = read_secret(Path(path), "key")
        load = (
            serialization.load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else serialization.load_pem_private_key
        )
        try:
            key = load(data, password=None)
        except Exception as error:  # whatever it says may quote the file
            raise Unusable(f"{path} holds no private key without a passphrase") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise Unusable(f"{path} holds a key of another kind than Ed25519; make one: herocoordinator key new FILE")
        return cls(key)

    def sign(self, text: bytes) -> str:
        """A signature, in base64."""
        return base64.b64encode(self._key.sign(text)).decode()

    def __repr__(self) -> str:
        return f"<Signer {self.public}>"


def new_key(path: Path) -> Signer:
    """Make a key and write it to a new file. Raises OSError."""
    key = Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.PKCS8
    write_secret(path, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return Signer(key)
