"""The events of a flow and of a context, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic_core import to_json

from coordinator.actors.request import Operation, RawJson
from coordinator.errors import CoordinatorError, InvalidParams, NotFound
from coordinator.models.events import ContextEventsParams, FlowEventsParams
from coordinator.operations.listing import PAGE_BYTES
from coordinator.storage.functions import events
from coordinator.storage.functions.results import Refused, Word
from coordinator.storage.keys import Keyspace

__all__ = ["cannot_follow", "cannot_read_events", "context_events", "flow_events"]

EVENTS_A_STEP: Final = 200  # at most
ENTRIES_A_STEP: Final = 64  # of a context's events, at most
FEED_KEPT_FOR: Final = 300.0  # seconds after the last call about them in which a context's events are written
EVENT_BYTES: Final = 256 * 1024  # of events read in one step, unless a single one is larger


def flow_events(keys: Keyspace, params: FlowEventsParams) -> Operation:
    """A page of a flow's events: at most `limit`, and fewer if they are large."""
    last = params.after
    page: list[bytes] = []
    size = 0
    missed = is_last = False
    while not (is_last or size >= PAGE_BYTES or len(page) >= params.limit):
        count = min(EVENTS_A_STEP, params.limit - len(page))
        (reply,) = yield [events.flow_read(keys, params.id, last, count, EVENT_BYTES)]
        found = events.read_flow_read(reply)
        if isinstance(found, Refused):
            raise cannot_read_events(found.word, params.context_id, params.id)
        missed = missed or found.missed
        step = [b'{"event_id":"%b",%b}' % event for event in found.events]
        page += step
        size += sum(map(len, step))
        is_last = found.is_last
        if step:
            last = found.events[-1][0].decode()
    return _page(page, last, missed)


def _page(events: Sequence[bytes], last: str, missed: bool) -> RawJson:
    return b'{"events":[%b],"last_event":"%b","missed":%b}' % (b",".join(events), last.encode(), to_json(missed))


def cannot_read_events(word: Word, context_id: int, id: int) -> CoordinatorError:
    """The error of a call whose `after` is an event that there is not yet, or whose flow is not there."""
    if word is Word.NONE:
        return NotFound("flow", context_id=context_id, id=id)
    msg = f"is beyond the last event of flow {id}; flow.status says which that is"
    return InvalidParams.at("after", msg=msg, type="no_such_event")


def context_events(keys: Keyspace, params: ContextEventsParams) -> Operation:
    """A page of a context's events: at most `limit`, and fewer if they are large. Without `after` it is empty, and says
    after which event the next one begins."""
    (reply,) = yield [events.context_follow(keys, FEED_KEPT_FOR, params.after)]
    following = events.read_context_follow(reply)
    if isinstance(following, Refused):
        raise cannot_follow(params.context_id)
    last = following.last if params.after is None else params.after
    page: list[bytes] = []
    size = 0
    missed, is_last = following.missed, params.after is None
    while not (is_last or size >= PAGE_BYTES or len(page) >= params.limit):
        (reply,) = yield [events.context_read(keys, last, ENTRIES_A_STEP, EVENT_BYTES)]
        found = events.read_context_read(reply, last)
        if isinstance(found, Refused):
            raise cannot_follow(params.context_id)
        missed = missed or found.missed
        chosen = found.events[: params.limit - len(page)]
        page += [b'{"event_id":"%b",%b}' % event for event in chosen]
        size += sum(len(members) for _, members in chosen)
        is_last = found.is_last
        if chosen:
            last = chosen[-1][0].decode()
    return _page(page, last, missed)


def cannot_follow(context_id: int) -> CoordinatorError:
    """The error of a call whose `after` is an event that there is not yet."""
    msg = f"is beyond the last event of context {context_id}; without it, the answer says which that is"
    return InvalidParams.at("after", msg=msg, type="no_such_event")
