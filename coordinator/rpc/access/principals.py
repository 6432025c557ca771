"""Who calls: an actor, a runner of a context, the operator, or anybody where nobody has to log in."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["BY_CERTIFICATE", "BY_JWT", "Principal", "Scope", "is_public_key", "read_principal"]

Kind = Literal["actor", "runner", "operator"]

BY_JWT: Final = "jwt:"
"""What stands before the mark of an identity provider's key, in the place of a public key."""
BY_CERTIFICATE: Final = "certificate"
"""In that place: a client's certificate."""

LARGEST_ID: Final = 2**32 - 1
_NAME: Final = re.compile(r"(?:actor:(0|[1-9]\d{0,9})|runner:(0|[1-9]\d{0,9}):(0|[1-9]\d{0,9}))", re.ASCII)


def is_public_key(key: str) -> bool:
    """Whether a principal's `key` is one, and not what stands in its place."""
    return bool(key) and key != BY_CERTIFICATE and not key.startswith(BY_JWT)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token is good for, of all its principal may do.

    Attributes:
        contexts: only these; None for all.
        is_reading: only what a reader may do.
    """

    contexts: frozenset[int] | None = None
    is_reading: bool = False

    @property
    def is_whole(self) -> bool:
        """It takes nothing away."""
        return self.contexts is None and not self.is_reading


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who has logged in.

    Attributes:
        id: of the actor or the runner.
        context_id: the runner's.
        key: the public key that has logged in, or by which the token was got; or BY_JWT and a mark, or BY_CERTIFICATE;
            '' if none was used.
        token: the id of the token that was shown; '' if none was.
        parent: the ids of the tokens by which that was made, with spaces between.
        expires_at: Unix time in seconds.
    """

    kind: Kind
    id: int = 0
    context_id: int = 0
    key: str = ""
    token: str = ""
    parent: str = ""
    expires_at: float = math.inf
    scope: Scope = Scope()

    @property
    def name(self) -> str:
        """As signatures, tokens and logs name it. Actor 7 and runner 7 have different names."""
        if self.kind == "actor":
            return f"actor:{self.id}"
        return f"runner:{self.context_id}:{self.id}" if self.kind == "runner" else "operator"

    @property
    def tokens(self) -> list[str]:
        """The ids of all tokens that must be good for this to be."""
        return [self.token, *self.parent.split()] if self.token else self.parent.split()

    @property
    def logged_in_by_key(self) -> bool:
        """It has a key of its own, and has not shown what ends by itself."""
        return is_public_key(self.key) and not self.token

    @property
    def identity(self) -> tuple[Kind, int, int]:
        """The same whatever it has logged in with."""
        return self.kind, self.context_id, self.id


def read_principal(name: str) -> Principal | None:
    """An actor or a runner by its name, without a credential; None if that is no name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    actor, context, runner = match.groups()
    ids = [int(text) for text in (actor, context, runner) if text is not None]
    if max(ids) > LARGEST_ID:
        return None
    return Principal("actor", ids[0]) if actor is not None else Principal("runner", ids[1], ids[0])
