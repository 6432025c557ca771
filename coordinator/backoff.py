"""Pauses that grow with the number of failures in a row."""

from __future__ import annotations

from typing import Final

from coordinator.importing import without

with without("opentelemetry"):  # see storage/endpoint.py
    from redis.backoff import ExponentialWithJitterBackoff

__all__ = ["Backoff"]

_MOST_DOUBLINGS: Final = 64  # redis-py raises OverflowError at 1,024 failures: half an hour of them, two seconds apart


class Backoff(ExponentialWithJitterBackoff):
    """Seconds to wait after so many failures in a row: a random part of `base` doubled as often, of `cap` at most."""

    def compute(self, failures: int) -> float:
        return super().compute(min(failures, _MOST_DOUBLINGS))
