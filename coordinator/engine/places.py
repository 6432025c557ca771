"""The places for calls that wait for a job: there is a limited number, and nobody may have nearly all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Final, TypeVar

from coordinator.budget import Budget
from coordinator.errors import Overloaded
from coordinator.measures import refused
from coordinator.storage.keys import ContextKey

__all__ = ["Place", "Places"]

Key = TypeVar("Key", bound=Hashable)

FEW: Final = 16  # places of which anybody may have all
SETTING: Final = "max_subscriptions"


class Places:
    """Who has how many.

    Args:
        limit: of all. A connection may have an eighth of them, and so may a runner; the clients at one address half.
            The last eighth, and another quarter at each address, are for contexts of which few calls wait.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._eighth = max(limit // 8, min(limit, FEW))
        self._half = max(limit // 2, min(limit, FEW))
        self._three_quarters = max(limit * 3 // 4, min(limit, FEW))
        self._unreserved = max(limit - limit // 8, min(limit, FEW))
        self._of_context: Counter[ContextKey] = Counter()
        self._of_runner: Counter[tuple[ContextKey, int]] = Counter()
        self._of_host: Counter[str] = Counter()
        self.taken = 0

    def take(self, client: Budget, context: ContextKey, runner_id: int, address: str = "") -> Place:
        """A place for a call of this client, which is at `address` or else where its connection is from.

        Raises Overloaded.
        """
        runner, host = (context, runner_id), address or client.host()
        has_few = self._of_context[context] < FEW  # else who waits in one context keeps all others out
        whose = (
            ("", "all", self.taken, self._limit if has_few else self._unreserved),
            (" of this connection", id(client), client.places, self._eighth),
            (f" of runner {runner_id}", runner, self._of_runner[runner], self._eighth),
            (
                f" from {host}",
                host,
                self._of_host[host] if host else 0,
                self._three_quarters if has_few else self._half,
            ),
        )
        for who, held, taken, limit in whose:
            if taken >= limit:
                refused(SETTING, held)
                raise Overloaded(f"{limit} calls{who} wait for jobs already", limit, SETTING)
        self.taken += 1
        client.places += 1
        self._of_runner[runner] += 1
        self._of_context[context] += 1
        self._of_host[host] += 1
        return Place(self, client, runner, host)

    def free(self, client: Budget, runner: tuple[ContextKey, int], host: str) -> None:
        """Called by a place that is given back."""
        self.taken -= 1
        client.places -= 1
        _decrement(self._of_runner, runner)
        _decrement(self._of_context, runner[0])
        _decrement(self._of_host, host)


class Place:
    """One of them, until it is given back."""

    __slots__ = ("_client", "_host", "_places", "_runner")

    def __init__(self, places: Places, client: Budget, runner: tuple[ContextKey, int], host: str) -> None:
        self._places = places
        self._client = client
        self._runner = runner
        self._host = host

    def give_back(self) -> None:
        """Once."""
        self._places.free(self._client, self._runner, self._host)


def _decrement(counter: Counter[Key], key: Key) -> None:
    """One less; what is zero is forgotten."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
