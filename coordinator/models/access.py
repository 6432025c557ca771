"""The types of logging in: challenges, tokens, keys. Times here are Unix seconds on the coordinator's clock."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypeAliasType

from coordinator.models.base import LEFT_OUT_WHEN_UNSET, Model, Timestamp, UInt32
from coordinator.models.contract import Actor

MAX_TOKEN_SECONDS = 366 * 86_400
MAX_TOKEN = 8192
MAX_KEY_OVERLAP = 30 * 86_400

PrincipalName = Annotated[str, Field(max_length=40, description="`actor:7`, or `runner:1:3` for runner 3 of context 1")]
Nonce = Annotated[str, Field(max_length=100, description="Of auth.challenge; it is good once")]
Signature = Annotated[
    str, Field(max_length=100, description="Ed25519, in base64, of the text that SECURITY.md describes")
]
PublicKeyText = Annotated[str, Field(max_length=1000)]
TokenId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="Names a token; it is no secret")]
Secret = Annotated[str, Field(max_length=100, description="`hc_…`: whoever has it is that principal; shown once")]
Access = TypeAliasType("Access", Literal["full", "read"])
RoleName = TypeAliasType("RoleName", Literal["operator", "admin", "executor", "reader", "runner", "stranger"])
ScopedContexts = Annotated[list[UInt32], Field(max_length=100)]


class ChallengeParams(Model):
    pass


class Challenge(Model):
    server: Annotated[str, Field(description="Names the coordinators of one store; it is signed")]
    nonce: Nonce
    expires_at: Annotated[Timestamp, Field(description="It is signed")]


class LoginParams(Model):
    principal: Annotated[PrincipalName | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
    nonce: Annotated[Nonce | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
    signature: Annotated[Signature | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
    token: Annotated[
        Annotated[str, Field(max_length=MAX_TOKEN)] | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="Instead of a signature, `hc_…` or a JWT; on a WebSocket only"),
    ] = None
    ticket: Annotated[
        Annotated[str, Field(max_length=MAX_TOKEN)] | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="Instead of a signature, from auth.ticket; on a WebSocket only"),
    ] = None


class LoggedIn(Model):
    principal: str
    expires_at: Annotated[
        Timestamp | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET, Field(description="Left out of the operator's")
    ] = None
    token: Annotated[
        Secret | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET, Field(description="Over HTTP, for the calls that follow")
    ] = None


class TicketParams(Model):
    pass


class Ticket(Model):
    ticket: Annotated[str, Field(description="For auth.login on a WebSocket, once: whoever has it is the caller")]
    expires_at: Timestamp


class WhoAmIParams(Model):
    context_id: Annotated[
        UInt32 | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="A context, to be told what the caller is and may do there"),
    ] = None


class WhoAmI(Model):
    principal: Annotated[str, Field(description="`open` where nobody has to log in, `stranger` before one has")]
    expires_at: Annotated[Timestamp | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
    token_id: Annotated[TokenId | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
    role: Annotated[
        RoleName | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="In the context that was asked for; a token for reading makes a reader of everybody"),
    ] = None
    rights: Annotated[
        list[str] | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(
            description="What that role may do there, if only with what is its own, in the words in which error "
            "-32003 names what is missing; left out where nobody has to log in, who may do everything"
        ),
    ] = None


class TokenCreateParams(Model):
    label: Annotated[str, Field(max_length=100, description="For people, who see it in lists")]
    expires_in: Annotated[int, Field(ge=1, le=MAX_TOKEN_SECONDS, description="Seconds")] = 30 * 86_400
    principal: Annotated[
        PrincipalName | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(
            description="Whose it is: the caller's unless given. Anybody's for the operator, a context's runners' "
            "for its admins"
        ),
    ] = None
    access: Annotated[Access, Field(description="`read`: what a reader may")] = "full"
    contexts: Annotated[
        ScopedContexts | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET, Field(description="Only these; all if left out")
    ] = None


class TokenInfo(Model):
    id: TokenId
    principal: str
    label: str
    access: Access
    contexts: Annotated[list[UInt32] | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
    created_at: Timestamp
    expires_at: Timestamp
    used_at: Annotated[
        Timestamp | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET, Field(description="To the minute; left out if never")
    ] = None


class NewToken(TokenInfo):
    token: Secret


class TokenListParams(Model):
    principal: Annotated[
        PrincipalName | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="The caller's own unless given; as in token.create"),
    ] = None


class TokenPage(Model):
    items: list[TokenInfo]


class TokenRevokeParams(Model):
    id: TokenId


class TokenRevoked(Model):
    id: TokenId
    revoked: Annotated[bool, Field(description="false: there is no such token")]


class KeyRotateParams(Model):
    id: UInt32
    pubkey: Annotated[PublicKeyText, Field(description="The new one")]
    overlap: Annotated[
        int, Field(ge=0, le=MAX_KEY_OVERLAP, description="Seconds for which the old key can still log in")
    ] = 3600
    nonce: Annotated[Nonce | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
    old_signature: Annotated[
        Signature | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET, Field(description="By the old key, unless the operator")
    ] = None
    new_signature: Annotated[
        Signature | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET, Field(description="By the new key, unless the operator")
    ] = None


class ActorRevokeParams(Model):
    id: UInt32


class ActorRevoked(Actor):
    revoked_at: Timestamp


class LoginEndedNotice(Model):
    """Params of the notification `auth.ended`: a subscription has ended, or without one the whole login, and the
    connection closes."""

    reason: str
    subscription: Annotated[str | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
