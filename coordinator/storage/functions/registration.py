"""Contexts: registered as known and as a coordinator's own, and brought to the layout that we know; see
library/upkeep.lua and library/migrate.lua."""

from __future__ import annotations

from typing import Any

from coordinator.storage.functions.results import Word
from coordinator.storage.keys import GLOBAL, Command, Keyspace, Layout
from coordinator.storage.library import SCHEMA


def own(layout: Layout, *contexts: int) -> Command:
    """Register contexts as known, and as owned by us. Only in GLOBAL, like the next one."""
    keys = layout.keyspace(GLOBAL)
    owned = keys.owned_contexts(layout.name).removeprefix(keys.prefix)
    return keys.call("hc_own", keys.contexts(), owned, *contexts)


def own_known(layout: Layout, *contexts: int) -> Command:
    """Register those of the contexts that are known as owned by us. Look at the reply with `is_unknown_context`."""
    keys = layout.keyspace(GLOBAL)
    return keys.call("hc_own_known", keys.contexts(), keys.owned_contexts(layout.name), *contexts)


def register(layout: Layout, context: int, *, creates: bool) -> Command:
    """Register a context to which something is written. `creates`: it may be new; else only if it is known."""
    return (own if creates else own_known)(layout, context)


def is_unknown_context(reply: Any) -> bool:
    """Whether this is the reply about one context that nothing was written to, and nothing may be new in."""
    return reply == Word.NONE.value  # type: ignore[no-any-return] # what the parser gives is untyped


def tell_layout(keys: Keyspace) -> Command:
    """Say what layout a context has in which nothing was stored before."""
    return ("HSETNX", keys.engine, "schema", SCHEMA)


def count_stored(keys: Keyspace) -> Command:
    """How many of the keys are there, one of which is if anything was stored in a context."""
    return ("EXISTS", keys.engine, *map(keys.index_of, ("job", "flow", "message")))


def migrate(keys: Keyspace) -> Command:
    """Bring some more of what a context has to the layout that we know."""
    return keys.call("hc_migrate", keys.engine)


def read_migrate(reply: Any) -> bool:
    """Whether all of it is; if not, call it again."""
    return reply == 1  # type: ignore[no-any-return] # what the parser gives is untyped
