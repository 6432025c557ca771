"""Open files: how many clients and store connections fit under the limit of open files, and what is kept for whom.

Each client and each connection to the store is a descriptor. Clients get what remains when everything else has its own,
so that they can never use up what the store, a new worker or the metrics page needs.
"""

from __future__ import annotations

from typing import Final

from coordinator.accepting import REFUSALS
from coordinator.settings import Settings

__all__ = ["HANDOVERS", "DoesNotFit", "fit", "most_held"]

HANDOVERS: Final = 16  # connections on their way from the parent to one worker, which has not accepted them yet

# Descriptors beside those of clients and of contexts.
STANDARD_STREAMS: Final = 3
RUNTIME: Final = 16  # trio's loop has 6; the rest is for the moment: starting a process takes 5, the metrics page 3
LISTENERS: Final = 2
EMBEDDED: Final = 4  # of whoever starts the Valkey: two locks, its pidfd, a connection to see whether it answers
STORE: Final = 8  # GLOBAL's connection, Pub/Sub's, discovery's, looking up names, and some being replaced by others
OF_WORKER: Final = 2  # in the parent: its channel and its pidfd
WORKER_STREAMS: Final = 5  # in a worker: the standard streams, the channel, the file for its stacks
LEAST_HELD: Final = 4  # connections the parent has accepted and not handed over yet

# Of the embedded Valkey's own limit, which is the same as ours.
VALKEY_RESERVED: Final = 32  # it lets no client have these (CONFIG_MIN_RESERVED_FDS)
VALKEY_OTHERS: Final = 4  # connections to it that are no worker's

LEAST_CLIENTS: Final = 8  # of one process over each front-end: no default is reduced further
LEAST_STORE: Final = 8  # contexts at once
LEAST_SHARES: Final = LEAST_STORE + 2 * LEAST_CLIENTS


class DoesNotFit(Exception):
    """A setting, or any serving at all, needs more open files than we may have. The text is one line for the user."""


def fit(settings: Settings, limit: int, open_files: int = STANDARD_STREAMS) -> Settings:
    """The settings, with those that were not given reduced until they fit.

    Args:
        limit: of open files, for each process (RLIMIT_NOFILE).
        open_files: already open, of those that count: the standard streams and whatever we have inherited.

    Raises DoesNotFit: a setting that was given does not fit, or the limit is too low for any.
    """
    given = settings.model_fields_set
    has_valkey = settings.external_store() is None
    least = _fixed(1, open_files, has_valkey=has_valkey) + LEAST_SHARES
    if limit < least:
        raise DoesNotFit(f"the limit of open files is {limit} (ulimit -n); it takes at least {least} to serve")
    workers = min(settings.workers, _most_workers(limit, open_files, has_valkey=has_valkey))
    if workers < settings.workers and "workers" in given:
        raise _refusal("workers", settings.workers, workers, limit)

    free = limit - _fixed(workers, open_files, has_valkey=has_valkey)
    clients = settings.max_connections
    store = settings.store_connections
    share = -(-clients // workers)  # of the worker with most

    # The store's connections come first: without them no client is served.
    most_store = free - 2 * min(share, LEAST_CLIENTS)
    if has_valkey:
        most_store = min(most_store, (limit - VALKEY_RESERVED - VALKEY_OTHERS) // workers - STORE)
    if "store_connections" in given:
        if store > most_store:
            raise _refusal("store_connections", store, most_store, limit)
    elif "max_connections" in given:
        store = min(store, most_store, max(LEAST_STORE, free - 2 * share))
    else:
        store = min(store, most_store, max(LEAST_STORE, free // 4))

    most_share = (free - store) // 2
    if share > most_share:
        if "max_connections" in given:
            raise _refusal("max_connections", clients, most_share * workers, limit)
        clients = most_share * workers

    fitting = {"workers": workers, "max_connections": clients, "store_connections": store}
    return settings.model_copy(
        update={name: value for name, value in fitting.items() if getattr(settings, name) != value}
    )


def most_held(workers: int, limit: int) -> int:
    """Connections the parent of so many workers may have accepted and not handed over yet."""
    return max(
        LEAST_HELD, min(HANDOVERS * workers, limit - _fixed_of_parent(workers, STANDARD_STREAMS, has_valkey=True))
    )


def _fixed(workers: int, open_files: int, *, has_valkey: bool) -> int:
    """Descriptors of a process that serves clients, beside theirs and those of contexts."""
    serving = RUNTIME + STORE + 2 * REFUSALS
    if workers > 1:
        return serving + WORKER_STREAMS + HANDOVERS
    return serving + open_files + LISTENERS + EMBEDDED * has_valkey


def _fixed_of_parent(workers: int, open_files: int, *, has_valkey: bool) -> int:
    """Descriptors of the parent beside the connections it is about to hand over."""
    return open_files + RUNTIME + LISTENERS + STORE + EMBEDDED * has_valkey + OF_WORKER * workers


def _most_workers(limit: int, open_files: int, *, has_valkey: bool) -> int:
    """How many workers one parent, and one embedded Valkey, have room for; 1 is one process and no parent."""
    if limit < _fixed(2, open_files, has_valkey=has_valkey) + LEAST_SHARES:
        return 1
    most = (limit - LEAST_HELD - _fixed_of_parent(0, open_files, has_valkey=has_valkey)) // OF_WORKER
    if has_valkey:
        most = min(most, (limit - VALKEY_RESERVED - VALKEY_OTHERS) // (LEAST_STORE + STORE))
    return max(1, most)


def _refusal(setting: str, value: int, most: int, limit: int) -> DoesNotFit:
    flag = "--" + setting.replace("_", "-")
    return DoesNotFit(
        f"{flag}: {value} does not fit under the limit of open files, which is {limit} (ulimit -n); {most} would fit"
    )
