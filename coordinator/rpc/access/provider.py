"""Tokens of an identity provider: JWTs, verified by the keys in a file. Of the extra `jwt`: it needs PyJWT.

A key is bound to the algorithms it is for before any token is read: what a token's header says chooses among them, and
nothing else. No address, key or certificate in a header is looked at.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import jwt
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from pydantic_core import from_json

from coordinator.errors import NotLoggedIn
from coordinator.rpc.access.principals import BY_JWT, Principal, read_principal
from coordinator.rpc.access.turns import Turns
from coordinator.secretfiles import Unusable, read_file

__all__ = ["Provider", "read_keys"]

log = structlog.get_logger("coordinator.access")

MAX_FILE: Final = 256 * 1024  # bytes
MAX_KEYS: Final = 64
MAX_TRIED: Final = 8  # keys a token without a key's name is tried with
LEAST_RSA: Final = 2048  # bits
VERIFIED: Final = 4096  # tokens that are remembered until they expire
VERIFY_EVERY: Final = 0.005  # seconds between two signatures that are verified, which take a tenth of that at most
LATEST: Final = 253_402_300_800  # the end of the year 9999
LEEWAY: Final = 30  # seconds by which a provider's clock may be ahead of ours
GRACE: Final = 5.0  # seconds in which a file that is being written may be none

_EXPIRED: Final = "the JWT has expired (`exp`)"
_OF_EC: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_OF_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)

_Public = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


class _Key(NamedTuple):
    """A public key of the provider.

    Attributes:
        name: its `kid`; None: it has none.
        algorithms: those it is for.
        mark: what principals are marked with that have shown a token it has signed.
    """

    name: str | None
    public: _Public
    algorithms: tuple[str, ...]
    mark: str


class Provider:
    """Verifies tokens by the keys of a file, which is read again when it changes. While it has none, none is good.

    Args:
        path: of a JWKS, or of public keys or certificates in PEM.
        issuer, audience: what `iss` must be, and `aud` be or have.
        claim: names the principal.
        algorithms: only these; those that are usual for a key, if there are none.
    """

    def __init__(self, path: Path, *, issuer: str, audience: str, claim: str, algorithms: Sequence[str] = ()) -> None:
        self._path = path
        self._issuer = issuer
        self._audience = audience
        self._claim = claim
        self._algorithms = tuple(algorithms)
        self._state: tuple[int, ...] | None = None
        self._keys: Sequence[_Key] = ()
        self._marks: set[str] = set()
        self._bad_since: float | None = None
        self._verified: OrderedDict[str, Principal] = OrderedDict()
        self._turns = Turns(VERIFY_EVERY)
        self.look()

    def look(self) -> None:
        """Read the file if it has changed. What cannot be read for GRACE has no keys any more."""
        state = _state_of(self._path)
        if state is not None and state == self._state and self._bad_since is None:
            return
        try:
            keys: Sequence[_Key] = read_keys(self._path, self._algorithms)
        except Unusable as error:
            if self._bad_since is None:
                self._bad_since = time.monotonic()
                log.error("the file of --jwt-keys cannot be used; its last keys are good a moment", reason=str(error))
            if time.monotonic() - self._bad_since < GRACE or not self._keys:
                return
            log.error("the file of --jwt-keys cannot be used: no JWT is good now", reason=str(error))
            keys, state = (), None
        else:
            self._bad_since = None
            log.info("the keys of --jwt-keys were read", keys=len(keys))
        self._state, self._keys = state, keys
        self._marks = {key.mark for key in keys}

    def has_key(self, mark: str) -> bool:
        """Whether the key that a principal is marked with is still in the file."""
        return mark in self._marks

    async def principal_of(self, digest: str, token: str) -> Principal:
        """Whom a token means, of which this is the digest. Whether there is such an actor or runner is not asked.

        Raises:
            NotLoggedIn: the token is not good; the text says why.
            Overloaded: too many wait to have theirs verified.
        """
        known = self._known(digest)
        if known is None:
            keys = self._keys_for(token)
            await self._turns.take()
            known = self._known(digest)  # another request has shown the same one meanwhile
        if known is None:
            known = self._read(token, keys)
            self._verified[digest] = known
            while len(self._verified) > VERIFIED:
                self._verified.popitem(last=False)
        return known

    def _known(self, digest: str) -> Principal | None:
        known = self._verified.get(digest)
        if known is None:
            return None
        if not self.has_key(known.key) or known.expires_at <= time.time():
            del self._verified[digest]
            return None
        self._verified.move_to_end(digest)
        return known

    def _keys_for(self, token: str) -> Sequence[_Key]:
        """The keys that may have signed it, by its header, which nobody has vouched for yet. Raises NotLoggedIn."""
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise NotLoggedIn("the JWT is none: its header cannot be read, or has critical extensions") from None
        if "crit" in header or "b64" in header:
            raise NotLoggedIn("the JWT has critical extensions, and none is known here")
        algorithm, name = header.get("alg"), header.get("kid")
        named = [key for key in self._keys if name is None or key.name is None or key.name == name]
        if not named:
            raise NotLoggedIn("the JWT was signed by a key (`kid`) that is not in the file of --jwt-keys")
        fitting = [key for key in named if algorithm in key.algorithms][:MAX_TRIED]
        if not fitting:
            raise NotLoggedIn("the JWT is signed by an algorithm (`alg`) that its key is not for, see --jwt-algorithms")
        return fitting

    def _read(self, token: str, keys: Sequence[_Key]) -> Principal:
        """Raises NotLoggedIn."""
        for key in keys:
            try:
                return self._principal(self._claims(token, key), key)
            except jwt.InvalidSignatureError:
                continue
            except jwt.ExpiredSignatureError:
                raise NotLoggedIn(_EXPIRED) from None
            except jwt.ImmatureSignatureError:
                raise NotLoggedIn(f"the JWT is good in over {LEEWAY} s only (`nbf`), or a clock is wrong") from None
            except jwt.InvalidIssuerError:
                raise NotLoggedIn("the JWT is of another issuer (`iss`) than --jwt-issuer") from None
            except jwt.InvalidAudienceError:
                raise NotLoggedIn("the JWT is for another audience (`aud`) than --jwt-audience") from None
            except jwt.MissingRequiredClaimError as error:
                raise NotLoggedIn(f"the JWT has no claim `{error.claim}`") from None
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
                raise NotLoggedIn("the JWT is malformed, or a claim in it is of the wrong type") from None
        raise NotLoggedIn("the JWT's signature is none of the keys in the file of --jwt-keys")

    def _claims(self, token: str, key: _Key) -> Mapping[str, Any]:
        """Raises jwt.PyJWTError, or what its reading of hostile numbers does."""
        return jwt.decode(
            token,
            key.public,
            algorithms=[*key.algorithms],
            issuer=self._issuer,
            leeway=LEEWAY,  # which is for `nbf`; nothing is added to `exp`, see _principal
            audience=self._audience,
            # When it was made is nothing to go by; a subject or an id of another form may be used for other things.
            options={"require": ["exp", "iss", "aud"], "verify_iat": False, "verify_sub": False, "verify_jti": False},
        )

    def _principal(self, claims: Mapping[str, Any], key: _Key) -> Principal:
        """Raises NotLoggedIn."""
        name, expires_at = claims.get(self._claim), claims["exp"]
        named = read_principal(name) if isinstance(name, str) else None
        if named is None:
            raise NotLoggedIn(f"the JWT's claim `{self._claim}` names neither actor:ID nor runner:CONTEXT:ID")
        if type(expires_at) not in (int, float) or not 0 < expires_at < LATEST:
            raise NotLoggedIn("the JWT's `exp` is no time")
        if expires_at <= time.time():
            raise NotLoggedIn(_EXPIRED)
        return Principal(named.kind, named.id, named.context_id, key=key.mark, expires_at=expires_at)


def read_keys(path: Path, algorithms: Sequence[str] = ()) -> Sequence[_Key]:
    """The keys of a JWKS or PEM file with what each is for, of these algorithms if there are any. Raises Unusable."""
    content = _content(path)
    found = _of_jwks(path, content) if content.lstrip().startswith(b"{") else _of_pem(path, content)
    if len(found) > MAX_KEYS:
        raise Unusable(f"{path} holds {len(found)} keys; it may hold {MAX_KEYS}")
    keys = [_key(path, name, public, meant, algorithms) for name, public, meant in found]
    usable = [key for key in keys if key.algorithms]
    if not usable:
        wanted = ", ".join(algorithms) or "RSA, EC (P-256, P-384, P-521) or Ed25519"
        raise Unusable(f"{path} holds no public key that verifies signatures: {wanted}")
    return usable


def _state_of(path: Path) -> tuple[int, ...] | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_mtime_ns, state.st_ino, state.st_size, state.st_mode


def _content(path: Path) -> bytes:
    """Raises Unusable."""
    try:
        content, held = read_file(path, MAX_FILE + 1)
    except OSError as error:
        raise Unusable(f"cannot read the keys in {path}: {(error.strerror or str(error)).lower()}") from None
    if held.st_mode & stat.S_IWOTH:
        raise Unusable(f"everybody can write the keys in {path}: chmod o-w {path}")
    if len(content) > MAX_FILE:
        raise Unusable(f"{path} is larger than {MAX_FILE} bytes")
    return content


_Found = tuple[str | None, _Public, str | None]
"""A key: its name, itself, and the algorithm it is said to be for."""


def _of_jwks(path: Path, content: bytes) -> list[_Found]:
    """Raises Unusable. What is not for signatures, or of a kind that is not known here, is left out."""
    try:
        document = from_json(content)
    except ValueError:
        raise Unusable(f"{path} is neither a JWKS (JSON) nor PEM") from None
    members = document.get("keys", [document])
    if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        raise Unusable(f"{path} is no JWKS: its `keys` are no list of objects")
    found: list[_Found] = []
    for member in members:
        if member.get("kty") == "oct" or "d" in member or "k" in member:
            raise Unusable(f"{path} holds a secret or private key; only public ones belong there")
        if member.get("use", "sig") != "sig" or "verify" not in member.get("key_ops", ["verify"]):
            continue
        try:
            # Its algorithm is looked at later: one that PyJWT does not know, or that is `none`, is no reason to fail.
            public = jwt.PyJWK.from_dict({name: value for name, value in member.items() if name != "alg"}).key
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
            log.warning("a key of --jwt-keys is left out: it is none that is known here", kid=str(member.get("kid")))
            continue
        if isinstance(public, _Public):
            name, meant = member.get("kid"), member.get("alg")
            found.append((None if name is None else str(name), public, None if meant is None else str(meant)))
    return found


def _of_pem(path: Path, content: bytes) -> list[_Found]:
    """Raises Unusable."""
    found: list[_Found] = []
    for block in _PEM.finditer(content):
        if b"PRIVATE" in block[1]:
            raise Unusable(f"{path} holds a private key; only public ones belong there")
        try:
            if block[1] == b"CERTIFICATE":
                public: object = x509.load_pem_x509_certificate(block[0]).public_key()
            else:
                public = load_pem_public_key(block[0])
        except ValueError:
            raise Unusable(f"{path} holds a broken {block[1].decode().lower()}") from None
        if isinstance(public, _Public):
            found.append((None, public, None))
    return found


def _key(path: Path, name: str | None, public: _Public, meant: str | None, algorithms: Collection[str]) -> _Key:
    """Raises Unusable."""
    possible: tuple[str, ...] = ("EdDSA",)
    usual = possible
    if isinstance(public, RSAPublicKey):
        if public.key_size < LEAST_RSA:
            raise Unusable(f"{path} holds an RSA key of {public.key_size} bits; it needs {LEAST_RSA}")
        possible, usual = _OF_RSA, ("RS256",)
    elif isinstance(public, EllipticCurvePublicKey):
        possible = usual = tuple(_OF_EC[curve] for curve in [public.curve.name] if curve in _OF_EC)
    allowed = tuple(algorithm for algorithm in possible if algorithm in (algorithms or usual))
    if meant is not None:
        allowed = (meant,) if meant in possible and (meant in algorithms or not algorithms) else ()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _Key(name, public, allowed, BY_JWT + hashlib.sha256(spki).hexdigest()[:32])
