"""Subscriptions to events, those of a flow and those of a context."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import Any, Final

from coordinator.actors.request import Operation
from coordinator.engine.sessions import Session, Subscription
from coordinator.measures import COUNTS
from coordinator.models.base import BEGINNING
from coordinator.operations.events import ENTRIES_A_STEP, EVENT_BYTES, EVENTS_A_STEP, FEED_KEPT_FOR
from coordinator.storage.connection import Command
from coordinator.storage.functions import events
from coordinator.storage.functions.events import ReadEvents
from coordinator.storage.functions.results import Refused, Word
from coordinator.storage.keys import Keyspace

__all__ = ["ContextSubscription", "FlowSubscription"]

_LOG: Final = b'"kind":"log"'


class EventSubscription(Subscription, ABC):
    """Streams events from the store, so that a slow client costs no memory here.

    Args:
        after: the id of the event after which it begins.
    """

    def __init__(self, session: Session, keys: Keyspace, *, after: str, in_batches: bool) -> None:
        super().__init__(session, keys, in_batches=in_batches)
        self._after = after
        self._has_missed = False

    @property
    @abstractmethod
    def _head(self) -> bytes:
        """How each notification begins, up to the event's members."""

    @abstractmethod
    def _command(self) -> Command:
        """Reads what comes next."""

    @abstractmethod
    def _found(self, reply: Any) -> ReadEvents | Refused:
        """What it has read. Refused: NONE, with the time, there will be no more; CHANGED, begin again."""

    @abstractmethod
    def _begin_again(self) -> Generator[list[Command], Any, None]:
        """Go on where the store has anything to go on with."""

    @abstractmethod
    def _gone(self, at: bytes) -> None:
        """There will be no more events, since that time: say so, and close."""

    def context_deleted(self) -> None:
        self._gone(b"%d" % (time.time_ns() // 1_000_000))

    def _tell(self, found: ReadEvents) -> None:
        """Notify the client of these events."""
        COUNTS.events_missed += found.missed
        notices = [b'%b"event_id":"%b",%b}}' % (self._head, *event) for event in found.events]
        if found.missed:
            notices[0] = b'%b,"missed":true}}' % notices[0][:-2]
        self.notify(notices)

    def serve(self) -> Operation:
        while not self.is_closed:
            self.look()
            if self.session.is_congested:
                yield self.park()
                continue
            with self.session.budget.reserve(EVENT_BYTES, self.wake) as reservation:
                while not (reservation.is_granted or self.is_closed):
                    yield self.park()
                if self.is_closed:
                    break
                (reply,) = yield [self._command()]
                if self.is_closed:
                    break
                found = self._found(reply)
                match found:
                    case Refused(Word.NONE, [bytes(at)]):
                        self._gone(at)
                        break
                    case Refused():  # what it has read is not there: a store that lost its last seconds, for one
                        self._has_missed = True
                        yield from self._begin_again()
                        continue
                found = found._replace(missed=found.missed or self._has_missed)
                is_all = found.is_last
                if found.events:
                    self._after, self._has_missed = found.events[-1][0].decode(), False
                    self._tell(found)
            del found, reply  # nobody needs them while we are parked
            if is_all:
                yield self.park()
        return b""


class FlowSubscription(EventSubscription):
    """Streams a flow's events.

    Attributes:
        sees_logs: log lines are among them.
    """

    kind = "flow"

    def __init__(
        self,
        session: Session,
        keys: Keyspace,
        *,
        flow_id: int,
        after: str,
        in_batches: bool,
        sees_logs: bool = True,
    ) -> None:
        super().__init__(session, keys, after=after, in_batches=in_batches)
        self.sees_logs = sees_logs
        self.flow_id = flow_id
        self._opening = (
            b'{"jsonrpc":"2.0","method":"flow.event","params":{"subscription":"%b","context_id":%d,"flow_id":%d,'
            % (self.id.encode(), keys.context_key or 0, flow_id)
        )

    @property
    def _head(self) -> bytes:
        return self._opening

    def _command(self) -> Command:
        return events.flow_read(self.keys, self.flow_id, self._after, EVENTS_A_STEP, EVENT_BYTES)

    def _found(self, reply: Any) -> ReadEvents | Refused:
        return events.read_flow_read(reply)

    def _begin_again(self) -> Generator[list[Command], Any, None]:
        self._after = BEGINNING  # it may be another flow, of the same id
        yield from ()

    def _tell(self, found: ReadEvents) -> None:
        if not self.sees_logs:
            found = found._replace(events=[event for event in found.events if not event[1].startswith(_LOG)])
            if not found.events:
                self._has_missed = found.missed  # the next one says so
                return
        super()._tell(found)

    def _gone(self, at: bytes) -> None:
        """The flow was deleted: that is its last event."""
        self.notify([b'%b"event_id":"%b-0","kind":"flow","at":%b,"status":"Deleted"}}' % (self._head, at, at)])
        self.close()


class ContextSubscription(EventSubscription):
    """Streams the events of all flows of a context.

    Args:
        was_there: so was the context's record when this began. It ends when that is deleted.
    """

    kind = "context"

    def __init__(self, session: Session, keys: Keyspace, *, after: str, in_batches: bool, was_there: bool) -> None:
        super().__init__(session, keys, after=after, in_batches=in_batches)
        self.was_there = was_there
        self._opening = b'{"jsonrpc":"2.0","method":"context.event","params":{"subscription":"%b","context_id":%d,' % (
            self.id.encode(),
            keys.context_key or 0,
        )

    @property
    def _head(self) -> bytes:
        return self._opening

    def _command(self) -> Command:
        return events.context_read(self.keys, self._after, ENTRIES_A_STEP, EVENT_BYTES, was_there=self.was_there)

    def _found(self, reply: Any) -> ReadEvents | Refused:
        return events.read_context_read(reply, self._after)

    def _begin_again(self) -> Generator[list[Command], Any, None]:
        (reply,) = yield [self.follow()]
        following = events.read_context_follow(reply)
        if not isinstance(following, Refused):  # else the next look says so
            self._after = following.last

    def follow(self) -> Command:
        """Has the context's events written for a while."""
        return events.context_follow(self.keys, FEED_KEPT_FOR, was_there=self.was_there)

    def _gone(self, at: bytes) -> None:
        """The context was deleted: that is its last event."""
        self.notify([b'%b"event_id":"%b-0","kind":"context","at":%b,"status":"Deleted"}}' % (self._head, at, at)])
        self.close()
