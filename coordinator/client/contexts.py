"""The events of all flows of a context as an asynchronous iterator that survives lost connections."""

from __future__ import annotations

from typing import Any

from coordinator import models
from coordinator.client.followers import DELETED, Channel, Follower

__all__ = ["ContextFollower"]


class ContextFollower(Follower[models.ContextEvent]):
    """`async for event in client.follow_context(…)`: what happens to all flows of a context, in order, none twice. For
    one task.

    It ends when it is closed, or after the event that says that the context was deleted. While nobody follows a
    context, and for longer than five minutes, its events are not kept; see `missed`.
    """

    def __init__(self, channel: Channel, context_id: int, *, after: str | None, buffer: int) -> None:
        super().__init__(channel, "context.subscribe", f"context {context_id}", after=after or "", buffer=buffer)
        self._context_id = context_id

    def _params(self) -> models.Model:
        if not self.last:
            return models.ContextSubscribeParams(context_id=self._context_id, batch=True)
        return models.ContextSubscribeParams(context_id=self._context_id, after=self.last, batch=True)

    def _event(self, params: dict[str, Any]) -> models.ContextEvent:
        return models.ContextEvent.model_validate(params, strict=False)

    def _is_end(self, event: models.ContextEvent) -> bool:
        return event.kind == "context" and event.status == DELETED

    def _begin_again(self) -> None:
        self.last = ""  # the store has lost what we have read last
