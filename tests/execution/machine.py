"""Random clients, runners and clocks, whose every step is compared with the model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordinator.errors import CoordinatorError
from tests.execution.driver import Attempt, Context, Runner, job
from tests.execution.model import CALLER, Model, Refused
from tests.execution.truth import check

__all__ = ["Machine"]

# Limits end between the ticks of the clock, so that the time a step really takes does not matter.
TICK: Final = 100
LEASES: Final = (150, 250)

JOBS: Final = st.integers(1, 6)
FLOWS: Final = st.integers(1, 2)
MESSAGES: Final = st.integers(1, 2)
PICK: Final = st.integers(0, 999)
NAMES: Final = st.sampled_from(["paid", "approved"])
SCOPES: Final = st.sampled_from([None, 1, 2])
SESSIONS: Final = st.sampled_from(["", "s", "job.take"])
TYPES: Final = st.sampled_from([("Python",), ("Sal",), ("Python", "Sal"), ("Sal", "Python")])
HOLDERS: Final = st.sampled_from(["h", "i"])


# retries, timeout, prerequisites
MANNERS: Final = st.sampled_from(
    [
        (0, 0, []),
        (0, 150, []),
        (1, 0, []),
        (1, 50, []),
        (2, 150, []),
        (2, 250, []),
        (0, 0, ["paid"]),
        (1, 250, ["approved"]),
        (2, 0, ["paid", "approved"]),
    ]
)


@st.composite
def specs(draw: st.DrawFn, id: int, others: Sequence[int]) -> dict[str, Any]:
    """A job. What it depends on is among `others`, but for one that may be anything, so that most flows are DAGs."""
    retries, timeout, prerequisites = draw(MANNERS)
    subsets = [[], [], *[[other] for other in others], [*others[:2]], [*others[-2:]], [1 + id % 3]]
    return job(
        id,
        draw(st.sampled_from(subsets)),
        script_type="Sal" if id % 3 == 0 else "Python",
        env_vars={"A": "1"} if draw(PICK) % 4 == 0 else {},
        retries=retries,
        timeout=timeout,
        prerequisites=prerequisites,
        **draw(st.sampled_from([{}, {"lost_retries": 0}, {"lost_retries": 1}])),
    )


@st.composite
def dags(draw: st.DrawFn, min_size: int = 1) -> list[dict[str, Any]]:
    ids = draw(st.lists(JOBS, unique=True, min_size=min_size, max_size=5))
    return [draw(specs(id, ids[:place])) for place, id in enumerate(ids)]


class Machine(RuleBasedStateMachine):
    """Drives `context`, which is empty, and a model of it.

    Attributes:
        attempts: every assignment that was handed out, and to whom.
        events: what is known of each flow's events by paging through them.
    """

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context
        self.model = Model()
        self.attempts: list[tuple[Attempt, Runner]] = []
        self.takes: dict[str, tuple[int, Runner, list[Attempt]]] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}

    @initialize(jobs=dags(min_size=3))
    def begin_with_a_flow(self, jobs: list[dict[str, Any]]) -> None:
        self.submit(1, jobs)

    # -- records

    @rule(data=st.data(), kind=st.sampled_from(["job", "flow", "deletion"]), id=JOBS, picks=st.lists(PICK, max_size=6))
    def change_a_record(self, data: st.DataObject, kind: str, id: int, picks: list[int]) -> None:
        if kind == "job":
            self._create_job(data.draw(specs(id, [*range(1, id)])))
        elif kind == "flow":
            self._create_flow(1 + id % 2, picks)
        else:
            self._delete(data.draw(st.sampled_from(["flow", "message", "job"])), id)

    def _create_job(self, spec: dict[str, Any]) -> None:
        self._both(lambda: self.context.create_job(**spec), lambda: self.model.create_job(spec))

    def _create_flow(self, id: int, picks: list[int]) -> None:
        """Create one of some jobs there are, mostly with what they depend on."""
        stored = sorted(self.model.jobs)
        jobs = [stored[pick % len(stored)] for pick in picks] if stored else []
        for listed in jobs:
            if picks[0] % 5:
                jobs += [id for id in self.model.jobs[listed].depends if id in stored and id not in jobs]
        self._both(lambda: self.context.create_flow(id, jobs), lambda: self.model.create_flow(id, jobs))

    def _delete(self, kind: str, id: int) -> None:
        if kind == "flow":
            self._both(lambda: self.context.delete_flow(id), lambda: self.model.delete(f"flow:{id}"))
            if f"flow:{id}" not in self.model.runs:
                self.events.pop(f"flow:{id}", None)
        elif kind == "message":
            self._both(lambda: self.context.delete_message(id), lambda: self.model.delete(f"message:{CALLER}:{id}"))
        else:
            self._both(lambda: self.context.delete_job(id), lambda: self.model.delete_job(id))

    # -- runs

    @rule(id=FLOWS, jobs=dags())
    def submit(self, id: int, jobs: list[dict[str, Any]]) -> None:
        self._both(lambda: self.context.submit(id, jobs), lambda: self.model.submit(id, jobs))

    @rule(pick=PICK, how=st.sampled_from(["start", "retry", "cancel", "rerun"]))
    def move_a_flow(self, pick: int, how: str) -> None:
        if how == "start":
            id = self._flow(pick, "Dispatched")
            self._both(lambda: self.context.start(id), lambda: self.model.start(id))
        elif how == "retry":
            id = self._flow(pick, "Error")
            self._both(lambda: self.context.retry(id), lambda: self.model.retry(id))
        elif how == "rerun":
            self._rerun(self._flow(pick, "Finished" if pick % 3 else "Error"), pick)
        else:
            id = self._flow(pick, "Started")
            self._both(lambda: self.context.cancel(id), lambda: self.model.cancel(id))

    def _rerun(self, id: int, pick: int) -> None:
        """All of it, or mostly from one of its jobs on."""
        run = self.model.runs.get(f"flow:{id}")
        listed = [*run.jobs, 9] if run is not None and run.jobs else [9]
        from_job = None if pick % 2 else listed[pick // 2 % len(listed)]
        asked = {} if from_job is None else {"from_job": from_job}
        self._both(lambda: self.context.rerun(id, **asked), lambda: self.model.rerun(id, from_job))

    @rule(pick=PICK, pauses=st.booleans(), id=JOBS)
    def pause_a_flow_or_cancel_a_job(self, pick: int, pauses: bool, id: int) -> None:
        if pick % 4 == 0:
            self._both(lambda: self.context.cancel_job(id), lambda: self.model.cancel_job(id))
            return
        flow = self._flow(pick, "Started")
        switch = self.context.pause_flow if pauses else self.context.resume_flow
        self._both(lambda: switch(flow), lambda: self.model.pause(flow, pauses))

    def _flow(self, pick: int, status: str) -> int:
        """Mostly a flow in this status, if there is one."""
        fitting = [name for name, run in self.model.runs.items() if run.is_flow and run.status == status]
        if not fitting or pick % 7 == 0:
            return 1 + pick % 2
        return int(sorted(fitting)[pick % len(fitting)][5:])

    @rule(id=MESSAGES, jobs=dags(), limits=st.tuples(*[st.sampled_from((0, 150, 350))] * 3), again=st.booleans())
    def send_a_message(self, id: int, jobs: list[dict[str, Any]], limits: tuple[int, int, int], again: bool) -> None:
        total, ack, result = limits
        if not again:
            self._both(
                lambda: self.context.create_message(id, jobs, timeout=total, timeout_ack=ack, timeout_result=result),
                lambda: self.model.create_message(id, jobs, {"total": total, "ack": ack, "result": result}),
            )
        self._both(lambda: self.context.send(id), lambda: self.model.send(id))

    @rule(name=NAMES, flow=SCOPES)
    def satisfy(self, name: str, flow: int | None = None) -> None:
        self._both(lambda: self.context.satisfy(name, flow)["released"], lambda: self.model.satisfy(name, flow))

    @rule(name=NAMES, flow=SCOPES)
    def revoke(self, name: str, flow: int | None) -> None:
        self._both(lambda: self.context.revoke(name, flow)["revoked"], lambda: self.model.revoke(name, flow))
        listed = self.context.prerequisites()
        assert {waiting["name"]: waiting["jobs"] for waiting in listed["waiting"]} == self.model.waiting()
        satisfied = {
            (item["name"], f"flow:{item['flow_id']}" if "flow_id" in item else "") for item in listed["satisfied"]
        }
        assert satisfied == self.model.satisfied

    # -- runners

    @rule(
        count=st.integers(1, 4),
        id=st.integers(1, 2),
        session=SESSIONS,
        types=TYPES,
        lease=st.sampled_from(LEASES),
        holder=HOLDERS,
    )
    def take(self, count: int, id: int, session: str, types: tuple[str, ...], lease: int, holder: str) -> None:
        runner = Runner(id, session, lease, types)
        ready = self.model.ready(types, id)
        share = self.model.share(id, session, count)
        number = len(self.attempts) + 1
        self.model.begin()
        taken = self.context.take(count, runner, holder=holder, number=number)

        assert len(taken) == min(share, len(ready))
        assert {attempt.id for attempt in taken} <= ready
        for attempt in taken:
            self._handed_out(attempt, runner)
        if taken:
            self.takes[holder] = (number, runner, taken)
            self.attempts += [(attempt, runner) for attempt in taken]

    def _handed_out(self, attempt: Attempt, runner: Runner) -> None:
        job = self.model.jobs[attempt.id]
        begun = self.model.take(attempt.id, attempt.token, runner.runner_id, runner.runner_session, int(runner.lease))
        assert attempt.number == begun.number <= job.most_attempts
        stored = self.model.jobs
        assert attempt.assignment["inputs"] == {
            str(parent): stored[parent].result if parent in stored else {} for parent in job.parents
        }

    @rule(
        count=st.integers(1, 4),
        id=st.integers(1, 2),
        session=SESSIONS,
        outcomes=st.lists(st.tuples(PICK, st.sampled_from(["finish", "fail", "give up"])), max_size=4),
    )
    def work(self, count: int, id: int, session: str, outcomes: list[tuple[int, str]]) -> None:
        """Take some, and report on some."""
        self._step(self.take, count, id, session, ("Python", "Sal"), LEASES[0], "h")
        for pick, outcome in outcomes:
            if live := self._live():
                attempt = live[pick % len(live)]
                if outcome == "finish":
                    self._step(self._finish, attempt)
                else:
                    self._step(self._fail, attempt, outcome == "fail")

    @precondition(lambda self: self.takes)
    @rule(pick=PICK, is_there=st.booleans())
    def lose_the_reply_to_a_take(self, pick: int, is_there: bool) -> None:
        """The runner asks again, or is not there any more."""
        holder = sorted(self.takes)[pick % len(self.takes)]
        number, runner, taken = self.takes[holder]
        live = [attempt for attempt in taken if self._is_live(attempt)]
        self.model.begin()
        if is_there:
            again = self.context.take(9, runner, holder=holder, number=number)
            assert [attempt.token for attempt in again] == [attempt.token for attempt in live]
        else:
            del self.takes[holder]
            self.context.untake(holder, number)
            for attempt in live:
                self.model.give_back(attempt.id)

    @precondition(lambda self: self.attempts)
    @rule(pick=PICK, how=st.sampled_from(["finish", "fail", "give up", "heartbeat", "log"]), late=st.booleans())
    def report_anything(self, pick: int, how: str, late: bool) -> None:
        """Late, again, or on time."""
        attempts = [attempt for attempt, _ in self.attempts] if late else self._live()
        if not attempts:
            return
        attempt = attempts[pick % len(attempts)]
        if how == "finish":
            self._finish(attempt)
        elif how == "fail":
            self._fail(attempt, True)
        elif how == "give up":
            self._lose(attempt)
        elif how == "heartbeat":
            self._heartbeat(attempt)
        else:
            self._log(attempt)

    @precondition(lambda self: self.attempts)
    @rule(who=PICK, picks=st.lists(PICK, max_size=3))
    def resume(self, who: int, picks: list[int]) -> None:
        """A runner that was handed something reconnects, and holds some of what there ever was."""
        runner = self.attempts[-1 - who % len(self.attempts)][1]
        holding = {self.attempts[pick % len(self.attempts)][0].token for pick in picks}
        self._both(
            lambda: self.context.resume(runner, *holding),
            lambda: self.model.resume(runner.runner_id, runner.runner_session, holding),
        )

    @rule(ids=st.sets(st.integers(1, 3)))
    def say_who_is_there(self, ids: set[int]) -> None:
        """These runners wait for jobs, now or from now on."""
        self.context.there(("Python", "Sal"), ids)
        self.model.there |= ids

    # -- time

    @rule(ticks=st.integers(1, 3))
    def advance(self, ticks: int) -> None:
        self.context.pass_time(ticks * TICK)
        self.model.now += ticks * TICK
        self.model.begin()
        due = self._due_in_store()
        assert set(due) == self.model.due()

        self.context.tick()

        self.model.act_on(due)
        self._check_stopped()

    def _due_in_store(self) -> list[str]:
        """Which timers are due, in the order in which they are seen to."""
        (time, skew) = self.context.wire.ask(("TIME",), ("HGET", f"{self.context.keys.prefix}engine", "skew"))
        now = int(time[0]) * 1000 + int(time[1]) // 1000 + int(skew)
        (names,) = self.context.wire.ask(("ZRANGE", f"{self.context.keys.prefix}timers", 0, now, "BYSCORE"))
        return [name.decode() for name in names if name != b"stale:engine"]  # what that does is no part of the model

    # -- what holds after each step

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        check(self.context, self.model)

    @invariant()
    def the_events_are_those_the_model_saw(self) -> None:
        for name, run in self.model.runs.items():
            if run.is_flow:
                known = self.events.setdefault(name, [])
                after = known[-1]["event_id"] if known else "0-0"
                new = self.context.events_page(int(name[5:]), after)["events"]
                known += new
                said = [{k: v for k, v in event.items() if k not in ("event_id", "at", "topic")} for event in new]
                expected = [event for event in self.model.events if event["flow"] == name]
                assert sorted(map(repr, map(_ordered, said))) == sorted(map(repr, map(_ordered, expected)))
        self.model.begin()

    # -- how each step is made

    def _both(self, real: Callable[[], Any], modelled: Callable[[], Any]) -> None:
        """Make a step on both sides: the same refusal, or the same answer where the model has one."""
        self.model.begin()
        expected: Any = None
        try:
            expected = modelled()
        except Refused as refused:
            expected = refused.error
        try:
            answer = real()
            said: Any = answer
        except CoordinatorError as error:
            answer, said = type(error).__name__, error.data
        if expected is not None or isinstance(answer, str):
            assert answer == expected, (answer, expected, said)
        self._check_stopped()

    def _check_stopped(self) -> None:
        told = [effect.split()[2] for effect in self.context.wire.effects if effect.startswith("cancel:")]
        assert sorted(told) == sorted(self.model.stopped)

    def _live(self) -> list[Attempt]:
        return [attempt for attempt, _ in self.attempts if self._is_live(attempt)]

    def _is_live(self, attempt: Attempt) -> bool:
        job = self.model.jobs.get(attempt.id)
        return job is not None and job.live is not None and job.live.token == attempt.token

    def _finish(self, attempt: Attempt) -> None:
        result = {"by": attempt.token}
        self._both(
            lambda: self.context.finish(attempt, **result),
            lambda: self.model.finish(attempt.id, attempt.token, result),
        )

    def _fail(self, attempt: Attempt, may_retry: bool) -> None:
        self._both(
            lambda: self.context.fail(attempt, "broken", retry=may_retry),
            lambda: self.model.fail(attempt.id, attempt.token, "broken", may_retry),
        )

    def _lose(self, attempt: Attempt) -> None:
        """Its runner ends, and says so."""
        self._both(
            lambda: self.context.fail(attempt, "killed", retry=False, lost=True),
            lambda: self.model.fail(attempt.id, attempt.token, "killed", False, is_lost=True),
        )

    def _heartbeat(self, attempt: Attempt) -> None:
        self._both(lambda: self.context.heartbeat(attempt), lambda: self.model.heartbeat(attempt.id, attempt.token))

    def _log(self, attempt: Attempt) -> None:
        self._both(
            lambda: self.context.log(attempt, "a line"), lambda: self.model.log(attempt.id, attempt.token, ["a line"])
        )

    # -- the end

    def teardown(self) -> None:
        """A runner that does its work, and everything outside satisfied: what has not failed ends well."""
        if sys.exc_info()[0] is not None:
            return  # it went wrong before
        failed = {name for name, run in self.model.runs.items() if run.status == "Error"}
        never_started = {name for name, run in self.model.runs.items() if run.is_active is None}
        for name in ("paid", "approved"):
            self._step(self.satisfy, name)
        for name, run in self.model.runs.items():
            if run.is_paused:
                id = int(name[5:])
                self._both(lambda id=id: self.context.resume_flow(id), lambda id=id: self.model.pause(id, False))  # type: ignore[misc]
                self.the_events_are_those_the_model_saw()
        while any(run.is_active for run in self.model.runs.values()):
            for attempt in self._live():
                self._step(self._finish, attempt)
            self._step(self.take, 4, 1, "", ("Python", "Sal"), LEASES[0], "h")
            if not self._live():
                self._step(self.advance, 1)
                failed |= {name for name, run in self.model.runs.items() if run.status == "Error"}
        for name, run in self.model.runs.items():
            if name not in failed | never_started:
                assert run.status in ("Finished", "Processed"), run
        for name, known in self.events.items():
            page = self.context.events(int(name[5:]), limit=3)
            assert page == known
            ids = [tuple(map(int, event["event_id"].split("-"))) for event in page]
            assert ids == sorted(set(ids))

    def _step(self, make: Callable[..., None], *arguments: Any) -> None:
        make(*arguments)
        self.the_store_is_as_the_model_says()
        self.the_events_are_those_the_model_saw()


def _ordered(event: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted((name, value) for name, value in event.items() if name != "flow")
