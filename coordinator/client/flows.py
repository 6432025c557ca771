"""A flow's events as an asynchronous iterator that survives lost connections."""

from __future__ import annotations

from typing import Any, Final

from coordinator import models
from coordinator.client.errors import TRANSIENT, NotFound
from coordinator.client.followers import DELETED, Channel, Follower
from coordinator.client.link import pause_after

__all__ = ["FlowFollower"]

LATER: Final = 4  # as `pause_after` counts: a second or so
ENDED: Final = ("Finished", "Error")


class FlowFollower(Follower[models.FlowEvent]):
    """`async for event in client.follow_flow(…)`: a flow's events in order, none twice. For one task.

    It ends after the event that says the flow is Finished or in Error, or at once if that was before `after`. A flow
    that was tried again is followed to its last end. It also ends when the flow is deleted, then after an event of the
    status Deleted if that comes through.

    Only the server's `--event-retention` and the 16 MiB of logs that are kept bound how far behind one may be; see
    `missed`.
    """

    def __init__(
        self, channel: Channel, flow: models.FlowParams, *, after: str | None, forever: bool, buffer: int
    ) -> None:
        super().__init__(channel, "flow.subscribe", f"flow {flow.id}", after=after or models.BEGINNING, buffer=buffer)
        self._flow = flow
        self._forever = forever
        self._may_be_over = True

    def _params(self) -> models.Model:
        of = self._flow
        return models.FlowSubscribeParams(context_id=of.context_id, id=of.id, after=self.last, batch=True)

    def _event(self, params: dict[str, Any]) -> models.FlowEvent:
        return models.FlowEvent.model_validate(params, strict=False)

    def _is_end(self, event: models.FlowEvent) -> bool:
        return event.kind == "flow" and event.status == DELETED

    def _begin_again(self) -> None:
        self.last = models.BEGINNING  # the store has lost what we have read last, or it is another flow of this id

    def _subscribed(self, result: Any) -> None:
        super()._subscribed(result)
        self._may_be_over = True

    def _given(self, event: models.FlowEvent) -> None:
        if event.kind == "flow":
            self._may_be_over = event.status in ENDED

    async def _look(self) -> bool:
        if not self._may_be_over or self._forever:
            return False
        await self._look_whether_over()
        return True

    async def _look_whether_over(self) -> None:
        """Close if the flow has ended and nothing came after the last event given out."""
        after = models.FlowEventsParams(context_id=self._flow.context_id, id=self._flow.id, after=self.last, limit=1)
        flow, events = await self._channel.call_many([("flow.load", self._flow), ("flow.events", after)])
        if isinstance(flow, NotFound) or isinstance(events, NotFound):
            if not self._buffer:
                self._gone()
            return
        for outcome in (flow, events):
            if isinstance(outcome, TRANSIENT):
                await self._loop.sleep(pause_after(LATER))
                return
            if isinstance(outcome, Exception):
                raise outcome
        if flow["status"] not in ENDED:
            self._may_be_over = False  # until it says so itself
        elif not events["events"]:
            self.close()
        elif not self._buffer and self._subscription is not None:
            # They are on their way here.
            self._changed = self._loop.event()
            await self._changed.wait()
