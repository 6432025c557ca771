"""One request's way from step to step: what it sends next, what it makes of the replies, how it ends."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.actors.host import Host
from coordinator.actors.request import Compute, Further, Operation, Outcome, Park, Pause, Request, WithEffects
from coordinator.errors import BeingDeleted, CoordinatorError, StorageError
from coordinator.storage.connection import Command, Reply, Store
from coordinator.storage.faults import ReplyError, ReplyNotKept, is_deleting, is_library_fault, is_write_refusal
from coordinator.storage.keys import ContextKey, Transition
from coordinator.supervision import report

__all__ = ["Progress", "advance", "is_known", "learn", "outcome_of"]


class Progress:
    """Advances the requests of one context."""

    def __init__(self, context: ContextKey, store: Store, host: Host) -> None:
        self._context = context
        self._store = store
        self._host = host

    def asks_again(self, reply: Reply) -> bool:
        """Whether it is an error after which the command is to be sent again, on a new connection."""
        return type(reply) is ReplyError and self._store.is_transient(reply)

    def resume(self, request: Request) -> bool:
        """Hand a request the replies to its step, all of which are known. False when it left the round."""
        assert request.known is not None
        replies = [request.known[at] for at in range(len(request.known))]
        errors = [reply for reply in replies if isinstance(reply, ReplyError)]
        if errors:
            if request.calls == 1:
                request.operation.close()
                request.finish(self._refusal(errors[0], request))
                return False
            replies = [self._refusal(reply, request) if isinstance(reply, ReplyError) else reply for reply in replies]
        request.commands = request.known = None
        request.resume_with = replies
        return self.has_commands(request)

    def _refusal(self, error: ReplyError, request: Request) -> CoordinatorError:
        if isinstance(error, ReplyNotKept):
            return StorageError(str(error), may_have_been_applied=True)
        if request.writes and not is_write_refusal(error):
            self._host.lost_effects(self._context, True)  # it may have come half way
        if is_deleting(error):
            return BeingDeleted(self._context)
        if is_library_fault(error):
            return report("the function library", error, context=self._context)
        return StorageError(self._store.refusal(error), may_have_been_applied=request.is_in_doubt)

    def has_commands(self, request: Request) -> bool:
        """Advance a request to its next step if it has none. False when it left the round."""
        if request.done:
            if request.resume_with is not None and request.writes:
                self._host.lost_effects(self._context, True)
            request.operation.close()
            return False
        if request.commands is not None:
            if request.withheld:  # none of it is on the wire
                request.known = {**request.withheld, **(request.known or {})}
            return request.known is None or not is_known(request) or self.resume(request)
        step = advance(request.operation, request.resume_with, self._context)
        request.resume_with = None
        if isinstance(step, list):
            if type(step) is Further and step.effects:
                self._host.apply_effects(self._context, step.effects)
            request.commands = step
            return True
        if isinstance(step, Park):
            self._host.park(request, step)
        elif isinstance(step, Compute):
            self._host.compute(request, step)
        elif isinstance(step, Pause):
            self._host.pause(request, step)
        else:
            if isinstance(step, WithEffects):
                if step.effects:
                    self._host.apply_effects(self._context, step.effects)
                step = step.answer
            request.finish(step)
        return False


def learn(request: Request, replies: list[Reply], asks_again: Callable[[Reply], bool], *, of_all: bool = False) -> None:
    """Keep those of a request's replies that stand: what a transition has done is done. `of_all`: all of them do."""
    assert request.commands is not None
    known = request.known or {}
    unknown = [at for at in range(len(request.commands)) if at not in known]
    learned = {
        at: reply
        for at, reply in zip(unknown, replies, strict=False)
        if of_all or (type(request.commands[at]) is Transition and not asks_again(reply))
    }
    if learned:
        request.known = {**known, **learned}


def is_known(request: Request) -> bool:
    """Whether all replies to a request's step are."""
    return request.known is not None and request.commands is not None and len(request.known) == len(request.commands)


def advance(
    operation: Operation, sent: object, context: ContextKey
) -> list[Command] | Compute | Park | Pause | WithEffects | Outcome:
    """Send an operation what it waits for. Returns its next step, or what it has ended with; never raises."""
    try:
        return operation.send(sent)
    except StopIteration as finished:
        ended: Outcome | WithEffects = finished.value
        return ended
    except Exception as error:
        return outcome_of(error, "an operation", context=context)


def outcome_of(error: Exception, what: str, **where: object) -> CoordinatorError:
    """The outcome of a call for which this was raised. A fault of ours is reported as one of `what`."""
    return error if isinstance(error, CoordinatorError) else report(what, error, **where)
