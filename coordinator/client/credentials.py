"""Who the client is: a key that signs a challenge on each connection, a token that is shown with it, or a certificate
that is shown when TLS begins."""

from __future__ import annotations

import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from coordinator import models
from coordinator.client.address import Address
from coordinator.client.errors import rpc_error
from coordinator.errors import Conflict, MethodNotFound
from coordinator.secretfiles import Unusable, read_secret

if TYPE_CHECKING:
    from coordinator.signing import Signer

__all__ = ["Credentials", "Unusable", "reply_in"]

_Result = TypeVar("_Result", bound=BaseModel)

_TOKEN: Final = re.compile(r"hc_[\x21-\x7e]*|[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)

Ask = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Sends a call by its method and params, and returns the reply object."""


@dataclass(frozen=True)
class Credentials:
    """What to log in with; none of it is shown by `repr`.

    Args:
        principal: `actor:7`, or `runner:1:3` for runner 3 of context 1. For a key.
        key: its file; see Signer.read.
        token: a token.
        token_file: the file a token is read from, for each connection anew.
        certificate: a file (PEM) with a certificate, those that vouch for it, and its private key, unencrypted.
    """

    principal: str = ""
    key: Path | None = None
    token: str = ""
    token_file: Path | None = None
    certificate: Path | None = None

    def __repr__(self) -> str:
        what = "a token" if self.key is None else f"the key in {self.key}"
        if self.certificate is not None:
            what = f"the certificate in {self.certificate}"
        return f"<Credentials {self.principal or 'of whoever has it'}: {what}>"

    def check(self) -> None:
        """Raises Unusable if they cannot be used: it says which file, and what to do."""
        self.headers()
        if self.key is not None:
            _signer(self.key)
            if not self.principal:
                raise Unusable(f"say whose key {self.key} is: --as actor:ID, or --as runner:CONTEXT:ID")
        if self.certificate is not None:
            self.show_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def show_certificate(self, tls: ssl.SSLContext) -> None:
        """Have the certificate shown on connections of this context. Raises Unusable."""
        assert self.certificate is not None
        read_secret(self.certificate, "private key")
        try:
            tls.load_cert_chain(self.certificate, password=_no_password)
        except ssl.SSLError as error:  # it is an OSError, too
            mismatch = "key values mismatch" in str(error).lower().replace("_", " ")
            why = "its key is not the certificate's" if mismatch else "there must be a certificate and its key, as PEM"
            raise Unusable(f"cannot use the certificate in {self.certificate}: {why}") from None
        except OSError as error:
            raise Unusable(f"cannot read the certificate in {self.certificate}: {error.strerror}") from None

    def headers(self) -> dict[str, str]:
        """What a request, or a WebSocket's handshake, shows. Raises Unusable."""
        token = self.token
        if not token and self.token_file is not None:
            words = read_secret(self.token_file, "token").decode(errors="replace").split()
            if not words:
                raise Unusable(f"there is no token in {self.token_file}")
            token = words[0]
        if not token:
            return {}
        if not _TOKEN.fullmatch(token):
            where = "" if self.token_file is None else f" in {self.token_file}"
            raise Unusable(f"the token{where} is none: it begins with hc_, or is a JWT")
        return {"Authorization": f"Bearer {token}"}

    async def log_in(self, ask: Ask, address: Address) -> models.LoggedIn | None:
        """Log in by the key, if there is one. Returns what auth.login did, None if there is nothing to log in to.

        Raises:
            RpcError: it was refused, or not answered as a coordinator does.
            Unusable: the key cannot be read.
        """
        if self.key is None:
            return None
        signer = _signer(self.key)
        reply = await ask("auth.challenge", {})
        if _is_open(reply):
            return None
        challenge = _result(models.Challenge, reply)
        signed = _signed_text(
            server=challenge.server,
            host=address.host_header,
            principal=self.principal,
            nonce=challenge.nonce,
            expires_at=challenge.expires_at,
        )
        params = {"principal": self.principal, "nonce": challenge.nonce, "signature": signer.sign(signed)}
        return _result(models.LoggedIn, await ask("auth.login", params))


def reply_in(message: str | bytes) -> Any:
    """The reply object that a message is, as an Ask returns it; None if it is no JSON."""
    try:
        return from_json(message)
    except ValueError:
        return None


def _no_password() -> str:
    """Called for a key that is encrypted; without it OpenSSL would ask at the terminal, for each connection anew."""
    raise Unusable(
        "the private key of the client certificate is encrypted; give one that is not, in a file of mode 0600"
    )


def _signer(file: Path) -> Signer:
    from coordinator.signing import Signer  # noqa: PLC0415 - what most clients need not takes long to import

    return Signer.read(file)


def _signed_text(**parts: Any) -> bytes:
    from coordinator.signing import signed_text  # noqa: PLC0415

    return signed_text("login", **parts)


def _is_open(reply: Any) -> bool:
    """Whether the coordinator lets everybody call, or knows nothing of logging in."""
    error = reply.get("error") if isinstance(reply, dict) else None
    if not isinstance(error, dict):
        return False
    data = error.get("data")
    says_none = error.get("code") == Conflict.code and isinstance(data, dict) and data.get("auth") == "none"
    return says_none or error.get("code") == MethodNotFound.code


def _result(kind: type[_Result], reply: Any) -> _Result:
    try:
        if isinstance(reply, dict) and "result" in reply:
            return kind.model_validate(reply["result"])
    except ValidationError:
        pass
    raise rpc_error(reply.get("error") if isinstance(reply, dict) else None)
