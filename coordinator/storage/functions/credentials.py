"""What logging in needs: tokens and the keys of actors; see library/access.lua."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordinator.storage.functions.results import Refused, Word, read_word
from coordinator.storage.keys import Keyspace, Transition


def token_create(
    keys: Keyspace, id: str, principal: str, seconds: int, most: int, kept: Mapping[str, str]
) -> Transition:
    """Keep a token for so many seconds, with `kept`. Only in GLOBAL, like the next four."""
    flat = [item for name, value in kept.items() for item in (name, value)]
    return keys.transition("hc_token_create", id, principal, seconds, most, *flat)


def read_token_create(reply: Any) -> tuple[int, int]:
    """When it was made, and when it expires (Unix time in seconds)."""
    _, (created_at, expires_at) = read_word("hc_token_create", reply[0], Word.OK)
    return int(created_at), int(expires_at)


def token_revoke(keys: Keyspace, id: str, principal: str) -> Transition:
    """Let a token of this principal be good no longer."""
    return keys.transition("hc_token_revoke", id, principal)


def read_token_revoke(reply: Any) -> bool:
    """Whether there was one."""
    _, (revoked,) = read_word("hc_token_revoke", reply[0], Word.OK)
    return bool(revoked)


def token_used(keys: Keyspace, id: str) -> Transition:
    """A token is in use."""
    return keys.transition("hc_token_used", id)


def key_rotate(keys: Keyspace, id: int, expected: str, new: str, overlap: int) -> Transition:
    """Give an actor another key; `expected`: the one it must have, or ''. The old one is good for so many seconds."""
    return keys.transition("hc_key_rotate", f"actor:{id}", expected, new, overlap)


def read_key_rotate(reply: Any) -> Refused | None:
    """Refused: NONE, STATE if the actor was revoked, CHANGED if it has another key."""
    word, details = read_word("hc_key_rotate", reply[0], Word.OK, Word.NONE, Word.STATE, Word.CHANGED)
    return None if word is Word.OK else Refused(word, details)


def actor_revoke(keys: Keyspace, id: int) -> Transition:
    """Let an actor log in no more."""
    return keys.transition("hc_actor_revoke", f"actor:{id}")


def read_actor_revoke(reply: Any) -> int | None:
    """Since when (Unix time in seconds); None: there is no such actor."""
    word, details = read_word("hc_actor_revoke", reply[0], Word.OK, Word.NONE)
    return int(details[0]) if word is Word.OK else None
