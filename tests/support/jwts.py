"""An identity provider written by hand: keys, the files it publishes, and tokens as good or as odd as a test wants."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

__all__ = ["AUDIENCE", "ISSUER", "ProviderKey", "claims", "encoded", "hs256", "jwks", "unsigned"]

ISSUER: Final = "https://idp.example/realm"
AUDIENCE: Final = "herocoordinator"


def encoded(data: bytes | Any) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def claims(principal: Any, **more: Any) -> dict[str, Any]:
    """What a good token says; a member given as None is null, one given as `...` is left out."""
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": principal, "exp": int(time.time()) + 600, **more}
    return {name: value for name, value in said.items() if value is not ...}


class ProviderKey:
    """A key pair with a name. `kind`: RSA, EC or Ed25519."""

    def __init__(self, name: str, kind: str = "RSA") -> None:
        self.name = name
        self.algorithm = {"RSA": "RS256", "EC": "ES256", "Ed25519": "EdDSA"}[kind]
        self.private: Any
        if kind == "RSA":
            self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        elif kind == "EC":
            self.private = ec.generate_private_key(ec.SECP256R1())
        else:
            self.private = Ed25519PrivateKey.generate()

    @property
    def pem(self) -> bytes:
        pem: bytes = self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return pem

    @property
    def jwk(self) -> dict[str, str]:
        public = self.private.public_key()
        named = {"kid": self.name, "use": "sig", "alg": self.algorithm}
        if self.algorithm == "RS256":
            numbers = public.public_numbers()
            return {"kty": "RSA", "n": _number(numbers.n, 256), "e": _number(numbers.e, 3), **named}
        if self.algorithm == "ES256":
            point = public.public_numbers()
            return {"kty": "EC", "crv": "P-256", "x": _number(point.x, 32), "y": _number(point.y, 32), **named}
        raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": encoded(raw), **named}

    def sign(self, payload: Any, **header: Any) -> str:
        """A token; `header` changes its header, a member given as `...` is left out there."""
        given = {"alg": self.algorithm, "kid": self.name, "typ": "JWT", **header}
        text = encoded({name: value for name, value in given.items() if value is not ...}) + "." + encoded(payload)
        return f"{text}.{encoded(self._signature(text.encode()))}"

    def _signature(self, text: bytes) -> bytes:
        if self.algorithm == "RS256":
            signature: bytes = self.private.sign(text, padding.PKCS1v15(), hashes.SHA256())
            return signature
        if self.algorithm == "ES256":
            r, s = decode_dss_signature(self.private.sign(text, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        plain: bytes = self.private.sign(text)
        return plain


def jwks(*keys: ProviderKey) -> str:
    return json.dumps({"keys": [key.jwk for key in keys]})


def unsigned(payload: Any, algorithm: str = "none") -> str:
    return f"{encoded({'alg': algorithm, 'typ': 'JWT'})}.{encoded(payload)}."


def hs256(payload: Any, secret: bytes, name: str) -> str:
    """A token signed by a secret that everybody has."""
    text = encoded({"alg": "HS256", "kid": name, "typ": "JWT"}) + "." + encoded(payload)
    return f"{text}.{encoded(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def _number(number: int, length: int) -> str:
    return encoded(number.to_bytes(length, "big"))
