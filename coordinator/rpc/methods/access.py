"""The methods of logging in: who calls, with what key or token."""

from __future__ import annotations

from coordinator import models
from coordinator.errors import Conflict, Forbidden, InvalidParams, NotFound, NotLoggedIn, Overloaded, StorageError
from coordinator.rpc.access import answering
from coordinator.rpc.access.rights import Right
from coordinator.rpc.methods.method import Method, Personal, in_global

__all__ = ["ACCESS_METHODS"]

_USUAL = (InvalidParams, StorageError, NotLoggedIn, Conflict)
_SIGNED = (*_USUAL, Overloaded)
_ALLOWED = (*_USUAL, Forbidden, NotFound)

_LOGIN_EXAMPLE = {
    "principal": "actor:7",
    "nonce": "oAb2tq1YVb4ZlEzW0vYBQm3mTqgHh3Bl",
    "signature": "5VZDAMNgrHKQhuLMgG6CioSHfx645dl02HPgZSJJAVVfuIIVkKM7rMYeOXAc+bRr0lv18FlbvlRlUUFDjnoQCw==",
}

ACCESS_METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "auth.challenge",
            "A text to sign for auth.login, or for actor.rotate_key; it is good once, and for 30 s",
            models.ChallengeParams,
            models.Challenge,
            _USUAL,
            context=in_global,
            does=Personal(answering.challenge),
            right=Right.PUBLIC,
            replies="small",
        ),
        Method(
            "auth.login",
            "Log in: on a WebSocket for the connection, over HTTP for a token",
            models.LoginParams,
            models.LoggedIn,
            _SIGNED,
            context=in_global,
            does=Personal(answering.login),
            right=Right.PUBLIC,
            replies="small",
            example=_LOGIN_EXAMPLE,
        ),
        Method(
            "auth.renew",
            "Log in once more before a login is over; subscriptions go on",
            models.LoginParams,
            models.LoggedIn,
            _SIGNED,
            context=in_global,
            does=Personal(answering.renew),
            right=Right.PUBLIC,
            replies="small",
            example=_LOGIN_EXAMPLE,
        ),
        Method(
            "auth.ticket",
            "A ticket that logs in on a WebSocket, by auth.login, once and within 30 s; for pages that have a cookie",
            models.TicketParams,
            models.Ticket,
            _USUAL,
            context=in_global,
            does=Personal(answering.ticket),
            right=Right.SIGNED_IN,
            replies="small",
        ),
        Method(
            "auth.whoami",
            "Who the coordinator takes the caller for",
            models.WhoAmIParams,
            models.WhoAmI,
            _USUAL,
            context=in_global,
            does=Personal(answering.whoami),
            right=Right.PUBLIC,
            replies="small",
        ),
        Method(
            "token.create",
            "Make a token, by which whoever has it is a principal; it is shown once",
            models.TokenCreateParams,
            models.NewToken,
            _ALLOWED,
            context=in_global,
            does=Personal(answering.create_token),
            right=Right.SIGNED_IN,
            writes=True,
            replies="small",
            example={"label": "nightly build", "expires_in": 2592000},
        ),
        Method(
            "token.list",
            "The tokens of a principal, without the secrets",
            models.TokenListParams,
            models.TokenPage,
            _ALLOWED,
            context=in_global,
            does=Personal(answering.list_tokens),
            right=Right.SIGNED_IN,
        ),
        Method(
            "token.revoke",
            "Let a token be good no longer; what it has open ends within a second",
            models.TokenRevokeParams,
            models.TokenRevoked,
            _ALLOWED,
            context=in_global,
            does=Personal(answering.revoke_token),
            right=Right.SIGNED_IN,
            writes=True,
            replies="small",
            example={"id": "0123456789abcdef0123456789abcdef"},
        ),
        Method(
            "actor.rotate_key",
            "Give an actor another key: the operator, or the actor itself signed by both keys",
            models.KeyRotateParams,
            models.Actor,
            (*_ALLOWED, Overloaded),
            context=in_global,
            does=Personal(answering.rotate_key),
            right=Right.KEY_ROTATE,
            writes=True,
            example={"id": 7, "pubkey": "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "overlap": 3600},
        ),
        Method(
            "actor.revoke",
            "Let an actor log in no more, for good",
            models.ActorRevokeParams,
            models.ActorRevoked,
            _ALLOWED,
            context=in_global,
            does=Personal(answering.revoke_actor),
            right=Right.ACTOR_REVOKE,
            writes=True,
            example={"id": 7},
        ),
    )
}
