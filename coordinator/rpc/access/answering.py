"""The methods of logging in: challenges, logins, tokens and keys."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json, to_json

from coordinator import models
from coordinator.errors import Conflict, Forbidden, InvalidParams, NotFound, NotLoggedIn
from coordinator.operations.records import load_actor
from coordinator.rpc.access import sessions, tokens
from coordinator.rpc.access.keys import PublicKey, read_key
from coordinator.rpc.access.login import CHALLENGE_SECONDS, is_ours, sealed_nonce
from coordinator.rpc.access.principals import Principal, Scope, read_principal
from coordinator.rpc.access.rights import TABLE, Cell, Right, Role
from coordinator.rpc.access.sessions import keep_token, log_in_by_ticket
from coordinator.signing import signed_text
from coordinator.storage.functions import credentials
from coordinator.storage.functions.results import Word
from coordinator.storage.keys import GLOBAL

if TYPE_CHECKING:
    from coordinator.rpc.access.client import Access

__all__ = ["challenge", "create_token", "list_tokens", "login", "renew", "revoke_actor", "revoke_token", "rotate_key",
           "ticket", "whoami"]  # fmt: skip

LOGIN_SECONDS: Final = 12 * 3600  # that a login with a key lasts on a WebSocket
_ANYWHERE: Final = frozenset(
    {
        *(Right.PUBLIC, Right.SIGNED_IN, Right.ACTOR_CREATE, Right.ACTOR_LOAD, Right.ACTOR_REVOKE),
        *(Right.KEY_ROTATE, Right.CONTEXT_LIST),
    }
)
"""Rights that are no context's."""
HTTP_LOGIN_SECONDS: Final = 3600  # and the token it is answered with over HTTP
_NOBODY: Final = PublicKey(bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))


def _need(access: Access | None) -> Access:
    if access is None:
        detail = "this coordinator runs with --auth none: everybody may call everything, and nobody logs in"
        raise Conflict(detail, auth="none")
    return access


def _invalid(member: str, msg: str) -> InvalidParams:
    return InvalidParams.at(member, msg=msg, type="unusable")


def _json(**members: Any) -> bytes:
    return to_json({name: value for name, value in members.items() if value is not None})


# -- logging in


async def challenge(access: Access | None, params: models.ChallengeParams) -> bytes:
    access = _need(access)
    server, secret = await access.gate.identity()
    nonce, expires_at = sealed_nonce(secret) if access.nonces is None else access.nonces.new()
    return _json(server=server, nonce=nonce, expires_at=expires_at)


async def login(access: Access | None, params: models.LoginParams) -> bytes:
    access = _need(access)
    if params.token is not None or params.ticket is not None:
        return await _login_by_what_was_got(access, params)
    if params.principal is None or params.nonce is None or params.signature is None:
        raise _invalid("principal", "needs `nonce` and `signature` beside it; or give a `token` or a `ticket` instead")
    named = read_principal(params.principal)
    if named is None:
        raise _invalid("principal", "is neither actor:ID nor runner:CONTEXT:ID")
    expires_at = await _nonce_expiry(access, params.nonce)
    await access.gate.verifying.take()
    if not access.gate.registry.is_at_hand(named):  # else whoever has no key could use up the store's connections
        await access.gate.opening.take()
    server, _ = await access.gate.identity()
    text = signed_text(
        "login", server=server, host=access.host, principal=named.name, nonce=params.nonce, expires_at=expires_at
    )
    record = (await access.gate.registry.record_of(named)).value
    keys = () if record.is_revoked else record.keys
    # Who is not known takes as long as who has signed with another key.
    signed_by = [key for key in keys or (_NOBODY,) if key.has_signed(text, params.signature)]
    if not keys or not signed_by:
        detail = (
            f"no key of {named.name} has signed this challenge for the host {access.host!r}; it may have none that can "
            "log in, or was revoked"
        )
        raise NotLoggedIn(detail)
    await _use_nonce(access, params.nonce)
    key = signed_by[0].text
    if access.conversation is not None:
        until = int(time.time()) + LOGIN_SECONDS
        principal = Principal(named.kind, named.id, named.context_id, key=key, expires_at=until)
        access.become(principal)
        return _json(principal=named.name, expires_at=until)
    token = tokens.new_token()
    kept = {"label": "login", "key": key, "access": "full"}
    _, until = await keep_token(access, token, named.name, HTTP_LOGIN_SECONDS, kept)
    access.proven = named
    return _json(principal=named.name, expires_at=until, token=token)


async def _login_by_what_was_got(access: Access, params: models.LoginParams) -> bytes:
    """By a token, a JWT or a ticket."""
    member = "token" if params.ticket is None else "ticket"
    given = params.token, params.ticket, params.principal, params.nonce, params.signature
    if sum(value is not None for value in given) > 1:
        raise _invalid(member, "says by itself who it is; leave the others out")
    if params.ticket is not None:
        principal = await log_in_by_ticket(access, params.ticket)
    elif access.conversation is None:
        raise _invalid("token", "over HTTP a token is sent with each request, as `Authorization: Bearer hc_…`")
    else:
        principal = await access.gate.logins.principal_of(tokens.read_token(params.token or ""))
    access.become(principal)
    until = None if principal.kind == "operator" else int(principal.expires_at)
    return _json(principal=principal.name, expires_at=until)


async def ticket(access: Access | None, params: models.TicketParams) -> bytes:
    return await sessions.ticket(_need(access), params)


async def renew(access: Access | None, params: models.LoginParams) -> bytes:
    access = _need(access)
    if access.conversation is not None and access.principal is None:
        raise NotLoggedIn("there is no login to renew; call auth.login")
    return await login(access, params)


async def _nonce_expiry(access: Access, nonce: str) -> int:
    """Until when a nonce is good. One of a connection is used up with that, whatever comes of it."""
    if access.nonces is not None:
        expires_at = access.nonces.use(nonce)
    else:
        _, secret = await access.gate.identity()
        expires_at = is_ours(secret, nonce)
    if expires_at is None:
        detail = f"the nonce is none of this connection, was used, or is over {CHALLENGE_SECONDS} s old: auth.challenge"
        raise NotLoggedIn(detail)
    return expires_at


async def _use_nonce(access: Access, nonce: str) -> None:
    """The store lets each nonce that no connection keeps be used once."""
    if access.nonces is None:
        key = access.gate.keyspace(GLOBAL).used(nonce)
        (before,) = await access.gate.registry.write(GLOBAL, ("SET", key, "1", "NX", "PX", 2000 * CHALLENGE_SECONDS))
        if before is None:
            raise NotLoggedIn("the nonce was used; each is good once: auth.challenge")


async def whoami(access: Access | None, params: models.WhoAmIParams) -> bytes:
    if access is None:
        return _json(principal="open")
    await access.identify()
    principal = access.principal
    if principal is None:
        if access.refusal is not None:
            raise NotLoggedIn(access.refusal)
        return _json(principal="stranger")
    rights = {} if params.context_id is None else await _rights_in(access, params.context_id)
    if principal.kind == "operator":
        return _json(principal="operator", **rights)
    shown = {"expires_at": int(principal.expires_at), "token_id": principal.token or None, **rights}
    return _json(principal=principal.name, **shown)


async def _rights_in(access: Access, context: int) -> dict[str, Any]:
    """What the client is in a context, and the rights it has there, in whole or in part."""
    role, rules = await access.role_in(context), access.gate.rules
    denied = {Cell.NO, Cell.BY_SETTING}  # who is nobody in the context does not learn whether it could be made
    if not rules.executors_submit:
        denied |= {Cell.OWN_SUBMITTED, Cell.OWN_IDLE}
    rights = []
    for right, row in TABLE.items():
        cell = row.of(role)
        sees_none = right is Right.LOG_READ and cell is Cell.LOGS_BY_SETTING and not rules.readers_see_logs
        if not (right in _ANYWHERE or cell in denied or sees_none or access.is_out_of_scope(right)):
            rights.append(right.value)
    return {"role": role.value, "rights": rights}


# -- tokens


async def create_token(access: Access | None, params: models.TokenCreateParams) -> bytes:
    access = _need(access)
    caller = access.principal
    assert caller is not None, "who calls this has logged in"
    target = await _target(access, params.principal)
    seconds, kept = params.expires_in, {"label": params.label, "access": params.access}
    if target.identity == caller.identity:
        if caller.parent or not caller.scope.is_whole:
            detail = "this token was made by another, or is limited; log in with the key to make tokens"
            raise Forbidden(detail, "create tokens")
        kept |= {"key": caller.key, "parent": caller.token}
        if not caller.logged_in_by_key:
            seconds = max(1, min(seconds, int(caller.expires_at - time.time())))
    elif (await access.gate.registry.record_of(target)).value.is_revoked:
        raise NotFound(target.kind, id=target.id)
    if params.contexts is not None:
        kept["contexts"] = to_json(sorted(set(params.contexts))).decode()
    token = tokens.new_token()
    created_at, expires_at = await keep_token(access, token, target.name, seconds, kept)
    return _json(
        id=tokens.id_of(tokens.digest(token)),
        principal=target.name,
        label=params.label,
        access=params.access,
        contexts=None if params.contexts is None else sorted(set(params.contexts)),
        created_at=created_at,
        expires_at=expires_at,
        token=token,
    )


async def _target(access: Access, name: str | None) -> Principal:
    """Return the principal whose tokens a call is about. Raises Forbidden if the caller may not know of them."""
    caller = access.principal
    assert caller is not None
    if name is None:
        if caller.kind == "operator":
            raise _invalid("principal", "is needed: the operator's own tokens are the lines of its file")
        return caller
    named = read_principal(name)
    if named is None:
        raise _invalid("principal", "is neither actor:ID nor runner:CONTEXT:ID")
    if named.identity == caller.identity:
        return caller
    if not await _is_business_of(access, named):
        raise Forbidden(f"the tokens of {named.name} are its own and the operator's business", "administer tokens")
    return named


async def _is_business_of(access: Access, named: Principal) -> bool:
    caller = access.principal
    assert caller is not None
    if caller.kind == "operator" or named.identity == caller.identity:
        return True
    is_admin = named.kind == "runner" and await access.role_in(named.context_id) is Role.ADMIN
    return is_admin and caller.scope.is_whole


async def list_tokens(access: Access | None, params: models.TokenListParams) -> bytes:
    access = _need(access)
    target = await _target(access, params.principal)
    keys, registry = access.gate.keyspace(GLOBAL), access.gate.registry
    (ids,) = await registry.read(GLOBAL, ("ZRANGE", keys.tokens(target.name), 0, -1))
    names = ("label", "access", "contexts", "created_at", "expires_at", "used_at")
    found = await registry.read(GLOBAL, *(("HMGET", keys.token(id.decode()), *names) for id in ids)) if ids else []
    items = [
        {
            "id": id.decode(),
            "principal": target.name,
            "label": (label or b"").decode(),
            "access": (scope or b"full").decode(),
            **({"contexts": from_json(contexts)} if contexts else {}),
            "created_at": int(created_at),
            "expires_at": int(expires_at),
            **({"used_at": int(used_at)} if used_at else {}),
        }
        for id, (label, scope, contexts, created_at, expires_at, used_at) in zip(ids, found, strict=True)
        if created_at is not None and expires_at is not None
    ]
    return to_json({"items": items})


async def revoke_token(access: Access | None, params: models.TokenRevokeParams) -> bytes:
    access = _need(access)
    registry, caller = access.gate.registry, access.principal
    assert caller is not None, "who calls this has logged in"
    if not caller.scope.is_whole and params.id != caller.token:
        raise Forbidden("the token is limited, so it revokes no other than itself", "revoke tokens")
    keys = access.gate.keyspace(GLOBAL)
    (principal,) = await registry.read(GLOBAL, ("HGET", keys.token(params.id), "principal"))
    named = None if principal is None else read_principal(principal.decode())
    is_revoked = False
    if named is not None and await _is_business_of(access, named):  # of others' it is not told that they are there
        (reply,) = await registry.write(GLOBAL, credentials.token_revoke(keys, params.id, named.name))
        is_revoked = credentials.read_token_revoke(reply)
        registry.tokens.forget(params.id)
    return _json(id=params.id, revoked=is_revoked)


# -- keys


async def rotate_key(access: Access | None, params: models.KeyRotateParams) -> bytes:
    access = _need(access)
    caller, registry = access.principal, access.gate.registry
    assert caller is not None, "who calls this has logged in"
    new = read_key(params.pubkey)
    if new is None:
        raise _invalid("pubkey", "is no Ed25519 key that can log in: ed25519:BASE64, 64 hex digits or ssh-ed25519 …")
    expected = ""
    if caller.kind != "operator":
        if caller.scope != Scope():
            raise Forbidden("the token is limited; log in with the key", Right.KEY_ROTATE.value)
        expected = await _check_rotation(access, params, new)
    keys = access.gate.keyspace(GLOBAL)
    (reply,) = await registry.write(
        GLOBAL, credentials.key_rotate(keys, params.id, expected, params.pubkey, params.overlap)
    )
    registry.actors.forget(params.id)
    refused = credentials.read_key_rotate(reply)
    if refused is not None:
        if refused.word is Word.NONE:
            raise NotFound("actor", id=params.id)
        why = "was revoked" if refused.word is Word.STATE else "has another key by now"
        raise Conflict(f"actor {params.id} {why}", actor=params.id)
    return await _actor(access, params.id)


async def _check_rotation(access: Access, params: models.KeyRotateParams, new: PublicKey) -> str:
    """The key an actor has, which has signed for the new one as that has for itself. Raises NotLoggedIn."""
    if params.nonce is None or params.old_signature is None or params.new_signature is None:
        raise _invalid("nonce", "is needed, and the signatures of both keys, unless the operator calls")
    expires_at = await _nonce_expiry(access, params.nonce)
    await access.gate.verifying.take()
    server, _ = await access.gate.identity()
    record = (await access.gate.registry.actors.get(params.id)).value
    old = read_key(record.pubkey)
    if old is None:
        raise NotLoggedIn(f"actor {params.id} has no key that could sign; the operator may give it one")
    text = signed_text(
        "rotate",
        server=server,
        host=access.host,
        principal=f"actor:{params.id}",
        nonce=params.nonce,
        expires_at=expires_at,
        keys=(old.text, new.text),
    )
    for key, signature, which in ((old, params.old_signature, "old"), (new, params.new_signature, "new")):
        if not key.has_signed(text, signature):
            raise NotLoggedIn(f"the {which} key has not signed this rotation for the host {access.host!r}")
    await _use_nonce(access, params.nonce)
    return record.pubkey


async def revoke_actor(access: Access | None, params: models.ActorRevokeParams) -> bytes:
    access = _need(access)
    keys = access.gate.keyspace(GLOBAL)
    (reply,) = await access.gate.registry.write(GLOBAL, credentials.actor_revoke(keys, params.id))
    access.gate.registry.actors.forget(params.id)
    revoked_at = credentials.read_actor_revoke(reply)
    if revoked_at is None:
        raise NotFound("actor", id=params.id)
    return to_json({**from_json(await _actor(access, params.id)), "revoked_at": revoked_at})


async def _actor(access: Access, id: int) -> bytes:
    command, finish, asked = load_actor(access.gate.keyspace(GLOBAL), models.ActorLoadParams(id=id))
    (reply,) = await access.gate.registry.read(GLOBAL, command)
    answer = finish(reply, asked)
    assert isinstance(answer, bytes), "a load has no effects"
    return answer
