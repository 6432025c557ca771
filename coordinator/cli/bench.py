"""`herocoordinator bench`: load on a coordinator that runs somewhere, and what it makes of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from coordinator.cli.connection import connected, credentials, interruptible, run, where
from coordinator.cli.exit_codes import EXIT_ERROR, EXIT_USAGE, fail
from coordinator.cli.options import NEW_FILE, UINT32
from coordinator.cli.output import plural, say, say_in_place
from coordinator.client import RpcError, call_once
from coordinator.client.address import Address

if TYPE_CHECKING:
    from coordinator.client import Client
    from coordinator.load.measured import Measured
    from coordinator.load.messages import Kind
    from coordinator.load.plan import Plan

__all__ = ["bench"]

DEFAULT_URL: Final = "ws://127.0.0.1:9653"
_NEEDED: Final = ("picows", "hdrh", "numpy", "matplotlib")

_SCENARIOS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "load": ("job.load, one call a message", {"mix": {"load": 1}}),
    "create": ("job.create, one call a message", {"mix": {"create": 1}}),
    "mixed": ("both, by --mix", {"mix": {"load": 80, "create": 20}}),
    "batches": ("batches of --batch loads", {"mix": {"load": 1}, "batch": 100, "window": 4}),
    "contexts": ("loads spread over --contexts contexts", {"mix": {"load": 1}, "contexts": 1000}),
    "storm": ("connect, one load, close; again and again", {"mix": {"load": 1}, "window": 1, "storm": True}),
    "flows": (
        "flows of jobs that runners of its own finish at once, see below",
        {"mix": {"load": 1}, "connections": 4, "window": 25, "jobs": True},
    ),
    "fanout": (
        "changes that are told to many subscribers, see below",
        {"mix": {"load": 1}, "connections": 100, "rate": 100, "jobs": True},
    ),
}
_NAMES: Final = [*_SCENARIOS]
_MOST_JOBS: Final = 2000


class _Mix(click.ParamType[dict[str, int]]):
    name = "load=N,create=N"

    def convert(self, value: Any, _: click.Parameter | None, __: click.Context | None) -> dict[str, int]:
        if isinstance(value, dict):
            return value
        shares: dict[str, int] = {}
        for part in value.split(","):
            kind, sign, count = part.strip().partition("=")
            if kind not in ("load", "create") or not sign or not count.isdigit() or kind in shares:
                self.fail(f"{part!r} is no share; write load=80,create=20")
            shares[kind] = int(count)
        if not 0 < sum(shares.values()) <= 1000:
            self.fail("the shares must come to between 1 and 1000")
        return shares


def _positive(_context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise click.BadParameter("must be a number over 0", param=parameter)
    return value


def _not_negative(_context: click.Context, parameter: click.Parameter, value: float) -> float:
    if not 0 <= value < math.inf:
        raise click.BadParameter("must be a number, and not negative", param=parameter)
    return value


def _about() -> str:
    return "; ".join(f"{name}: {about}" for name, (about, _) in _SCENARIOS.items()) + "."


@click.command()
@click.argument("target", metavar="[URL]", required=False)
@where(DEFAULT_URL)
@click.option("--scenario", type=click.Choice(_NAMES), default="load", show_default=True, help=_about())
@click.option("--rate", type=float, callback=_positive, help="Calls, flows or changes a second, sent when they are due "
              "whether or not others were answered (an open loop). Unless given, each connection keeps its window full,"
              " and fanout publishes 100.")  # fmt: skip
@click.option("--knee", type=float, metavar="MS", callback=_positive,
              help="Look for the highest rate that is held with a p99 of so many milliseconds.")  # fmt: skip
@click.option("--connections", type=click.IntRange(1, 100_000), help="That send calls, submit flows, or are told of "
              "changes.  [default: 20; of flows 4; of fanout 100]")  # fmt: skip
@click.option("--window", type=click.IntRange(1, 10_000), help="Messages in flight on a WebSocket, or flows.  "
              "[default: 64; of flows 25]")  # fmt: skip
@click.option("--batch", type=click.IntRange(1, 1000), help="Calls of a message.  [default: 1; of batches 100]")
@click.option("--mix", type=_Mix(), help="Shares of the calls.  [default: of mixed, load=80,create=20]")
@click.option("--contexts", type=click.IntRange(1, 100_000), help="Contexts in use.  [default: 1; of contexts 1000]")
@click.option("--context", type=UINT32, help="Use this one and those after it, which are there, "
              "in place of new ones. Their jobs 1 to 100 of the caller are overwritten, and deleted.")  # fmt: skip
@click.option("--width", type=click.IntRange(1, 1000), help="Of a flow: chains of jobs beside one another, on which "
              "its last job depends.  [default: 4]")  # fmt: skip
@click.option("--depth", type=click.IntRange(1, 1000), help="Of a flow: jobs one after the other, with the last. 1 is "
              "one job, whatever the width.  [default: 2]")  # fmt: skip
@click.option("--runners", type=click.IntRange(1, 10_000), help="Connections that take jobs.  [default: 4]")
@click.option("--capacity", type=click.IntRange(1, 1000), help="Jobs that each has at once.  [default: 100]")
@click.option("--follow", type=click.IntRange(0, 10_000), metavar="FLOWS", help="Subscribers of fanout follow one of "
              "so many flows each, and log lines are published; 0: they follow their context, and flows are.  "
              "[default: 0]")  # fmt: skip
@click.option("--caller", type=UINT32, help="Actor on whose behalf.  [default: who is logged in]")
@click.option("--seconds", type=float, default=10.0, show_default=True, callback=_positive, help="Measured, each step.")
@click.option("--warm-up", type=float, default=2.0, show_default=True, callback=_not_negative,
              help="Seconds before that.")  # fmt: skip
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="That generate load.")
@click.option("--json", "json_file", type=NEW_FILE, help="Write the report there.")
@click.option("--prometheus", type=NEW_FILE, help="Write the figures there.")
@click.option("--html", type=NEW_FILE, help="Write a page with plots there.")
@click.option("--compare", type=click.Path(dir_okay=False, path_type=Path), multiple=True, metavar="REPORT",
              help="A report to compare with; two of them are compared without a run.")  # fmt: skip
def bench(target: str | None, url: str, ca: Path | None, compare: tuple[Path, ...], **given: Any) -> None:
    """Put load on the coordinator at URL, and tell how much it takes and how long answers take.

    It creates contexts of its own and deletes them in the end. In an open loop (--rate, --knee) a latency counts from
    when a call was due: what a slow answer delays is not left out. What limits may be the generator: then it says so.

    --scenario flows: --connections each keep --window flows in flight, or submit them at --rate; --runners finish
    each job as they get it. It tells flows/s, jobs/s, the time from submitting a flow (when it was due) to its end, and
    how long jobs that were ready waited for a runner. By default a flow is a tree of 1 + 4 jobs; --width 1 --depth 10
    is a chain of ten.

    --scenario fanout: --connections are subscribers of a context, in which flows are submitted at --rate, or of
    --follow flows, whose jobs write log lines at --rate. It tells how long each change took from when it was due to
    each subscriber, the events/s that they got, whether one was told that it missed some, and what did not come.

    Both need a WebSocket, and nothing else in a --context that they are given.

    Exit status: 0, or 1 if messages were refused or not answered, 2 a wrong command line, 3 no coordinator.

    \b
    herocoordinator bench ws://127.0.0.1:9653
    herocoordinator bench --scenario mixed --mix load=90,create=10 --rate 5000 --seconds 30 --html report.html
    herocoordinator bench --knee 10 --connections 200 --json now.json --compare before.json
    herocoordinator bench --scenario flows --rate 200 --processes 2 --html report.html
    herocoordinator bench --scenario fanout --connections 500 --rate 50 --follow 10
    herocoordinator bench https://hero.example:9652 --ca ca.pem --token-file ada.token --context 1
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        fail(f"{', '.join(missing)} not installed: pip install 'herocoordinator[bench]'", EXIT_USAGE)
    from coordinator.load import report  # noqa: PLC0415 - needs the extra

    try:
        before = [report.read(path) for path in compare]
    except report.Unreadable as error:
        fail(str(error), EXIT_USAGE)
    if len(before) > 2:
        fail("compare with one report, or two with each other", EXIT_USAGE)
    if len(before) == 2:
        _write(given["html"], lambda: report.as_html(before))
        _say_compared(*before)
        return
    try:
        address = Address.parse(target or url)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    _check(given, address)
    _check_files(given)
    _measure(address, ca, before, given)


_OF_JOBS: Final = ("width", "depth", "runners", "capacity", "follow")
_OF_CALLS: Final = ("batch", "mix")


def _check(given: dict[str, Any], address: Address) -> None:
    """An option that means nothing is a mistake: who gives it would believe that it was measured."""
    scenario = given["scenario"]
    runs_jobs = scenario in ("flows", "fanout")
    if runs_jobs and not address.is_websocket:
        fail(
            f"--scenario {scenario} needs a WebSocket: give the ws:// or wss:// URL in place of {address.url}",
            EXIT_USAGE,
        )
    unused: tuple[str, ...] = _OF_CALLS if runs_jobs else _OF_JOBS
    if scenario == "flows":
        unused += ("follow",)
    elif scenario == "fanout":
        unused += ("width", "depth")
    if scenario == "storm":
        unused += ("rate", "knee", "window")
    for name in unused:
        if given[name] is not None:
            fail(f"--{name} means nothing to --scenario {scenario}", EXIT_USAGE)
    if given["knee"] is not None and given["rate"] is not None:
        fail("--knee looks for the rate itself: leave --rate out", EXIT_USAGE)
    if not address.is_websocket and (given["window"] or 1) > 1:
        fail("--window means nothing over HTTP, where a connection has one request in flight", EXIT_USAGE)
    if scenario == "flows":
        jobs = (given["width"] or 4) * ((given["depth"] or 2) - 1) + 1
        if jobs > _MOST_JOBS:
            fail(
                f"a flow of {jobs} jobs is too large for one message: --width × --depth at most {_MOST_JOBS}",
                EXIT_USAGE,
            )


def _check_files(given: dict[str, Any]) -> None:
    """Not after the load what may have taken an hour."""
    for name in ("json_file", "prometheus", "html"):
        if given[name] is not None:
            try:
                given[name].open("ab").close()
            except OSError as error:
                fail(f"cannot write {given[name]}: {error.strerror}", EXIT_USAGE)


def _measure(address: Address, ca: Path | None, before: list[dict[str, Any]], given: dict[str, Any]) -> None:
    from coordinator.load import report  # noqa: PLC0415
    from coordinator.load.crew import crew  # noqa: PLC0415
    from coordinator.load.plan import LoadFailed  # noqa: PLC0415
    from coordinator.load.processes import generators  # noqa: PLC0415
    from coordinator.load.run import find_knee, run_step  # noqa: PLC0415
    from coordinator.load.stage import stage  # noqa: PLC0415

    def tell(line: str) -> None:
        say(line, err=True)

    async def main() -> int:
        token = await _token(address, ca) if credentials() is not None else ""
        # The calls before and after the load go over a WebSocket, whatever the load does.
        async with connected(address.url, ca) as client:
            # An interrupt ends the load, but not the connection: what was made is deleted over it.
            return await interruptible(lambda: guarded(client, token))

    async def loaded(client: Client, token: str) -> int:
        caller = given["caller"] if given["caller"] is not None else await _caller(client)
        server = await _server(client)
        who = credentials()
        certificate = "" if who is None or who.certificate is None else str(who.certificate)
        plan = _plan(given, address, str(ca or ""), token, certificate, caller)
        if plan.contexts > plan.places:
            fail(
                f"of {plan.contexts:,} contexts only {plan.places:,.0f} would be in use, as many as messages are in "
                "flight: give more --connections, or a larger --window",
                EXIT_USAGE,
            )
        _say_plan(plan)
        async with (
            stage(plan, client, tell) as contexts,
            crew(plan, client, contexts, tell) as runners,
            generators(plan, contexts, runners) as processes,
        ):
            show = _Shown(plan)
            try:
                if given["knee"] is not None:
                    steps = await find_knee(plan, processes, given["knee"], show, show.line)
                    found = steps[-1]
                else:
                    steps, found = [], await run_step(plan, processes, show)
            finally:
                show.end()
            if given["knee"] is not None and not found.keeps(given["knee"]):
                say(f"no rate was held with a p99 within {given['knee']:g} ms")
            _say_result(found)
        made = report.as_json(plan, server, found, steps)
        _write(given["json_file"], lambda: _json(made))
        _write(given["prometheus"], lambda: report.as_prometheus(made))
        _write(given["html"], lambda: report.as_html([*before, made]))
        if before:
            _say_compared(before[0], made)
        return EXIT_ERROR if found.errors or not found.messages else 0

    async def guarded(client: Client, token: str) -> int:
        try:
            return await loaded(client, token)
        except LoadFailed as error:
            fail(str(error), EXIT_ERROR)

    run(main)


def _plan(given: dict[str, Any], address: Address, ca: str, token: str, certificate: str, caller: int) -> Plan:
    from coordinator.load.plan import JobsPlan, Plan  # noqa: PLC0415

    _, defaults = _SCENARIOS[given["scenario"]]

    def chosen(name: str, otherwise: int) -> int:
        value: int = given[name] if given[name] is not None else defaults.get(name, otherwise)
        return value

    window = chosen("window", 64)
    jobs = None
    if defaults.get("jobs"):
        jobs = JobsPlan(
            runners=chosen("runners", 4),
            capacity=chosen("capacity", 100),
            width=chosen("width", 4) if given["scenario"] == "flows" else 1,
            depth=chosen("depth", 2) if given["scenario"] == "flows" else 1,
            followed=chosen("follow", 0),
        )
    return Plan(
        url=address.url,
        scenario=given["scenario"],
        kinds=_spread(given["mix"] or defaults["mix"]),
        batch=chosen("batch", 1),
        connections=chosen("connections", 20),
        window=window if address.is_websocket else 1,
        contexts=chosen("contexts", 1),
        processes=given["processes"],
        rate=given["rate"] or float(defaults.get("rate", 0)),
        warm_up=given["warm_up"],
        seconds=given["seconds"],
        storm=bool(defaults.get("storm")),
        first_context=given["context"],
        caller=caller,
        token=token,
        ca=ca,
        certificate=certificate,
        jobs=jobs,
    )


def _spread(shares: dict[str, int]) -> tuple[Kind, ...]:
    """The kinds of messages in turn, each as far from its like as it goes."""
    divisor = math.gcd(*shares.values())
    counts = {kind: share // divisor for kind, share in shares.items() if share}
    whole = sum(counts.values())
    places = sorted((((at + 0.5) / count, kind) for kind, count in counts.items() for at in range(count)))
    assert len(places) == whole
    return tuple(kind for _, kind in places)  # type: ignore[misc] # see _Mix


async def _token(address: Address, ca: Path | None) -> str:
    """What each connection shows: the token that there is, or one that the key logs in for."""
    who = credentials()
    assert who is not None
    if who.key is None:
        return who.headers().get("Authorization", "").removeprefix("Bearer ")

    async def ask(method: str, params: Any) -> Any:
        try:
            return {"result": await call_once(address.url, method, params, ca=ca)}
        except RpcError as error:
            return {"error": {"code": error.code, "message": error.message, "data": error.data}}

    logged_in = await who.log_in(ask, address)
    return (logged_in and logged_in.token) or ""


async def _caller(client: Client) -> int:
    """The actor who is logged in; 7 where nobody needs to be, or the operator is."""
    try:
        principal = (await client.call("auth.whoami", {}))["principal"]
    except RpcError:
        return 7
    kind, _, id = str(principal).partition(":")
    return int(id) if kind == "actor" else 7


async def _server(client: Client) -> dict[str, Any]:
    try:
        document = await client.call("rpc.discover", {})
    except RpcError:
        return {}
    return {name: document.get("info", {}).get(name) for name in ("title", "version")}


# -- what is said


def _say_plan(plan: Plan) -> None:
    what = f"{plan.scenario} at {plan.url}: {plan.connections} {'subscribers' if plan.is_fanout else 'connections'}"
    if plan.window > 1 and not plan.is_fanout:
        what += f" × {plan.window} in flight"
    if plan.batch > 1:
        what += f", batches of {plan.batch}"
    if plan.contexts > 1:
        what += f", {plan.contexts} contexts"
    if plan.is_fanout and plan.jobs is not None:
        what += f", {plan.jobs.followed} flows" if plan.jobs.followed else ""
    elif plan.jobs is not None:
        jobs = plan.jobs.width * (plan.jobs.depth - 1) + 1
        what += f", {jobs} {plural(jobs, 'job')} a flow, {plan.jobs.runners} runners × {plan.jobs.capacity}"
    say(what + (f", {_number(plan.rate)} {plan.unit}/s" if plan.rate else ", as fast as answers come"))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


class _Shown:
    """A line that is kept up to date on a terminal, and nothing elsewhere."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._is_live = sys.stdout is not None and sys.stdout.isatty()
        self._has_line = False

    def __call__(self, found: Measured) -> None:
        if not self._is_live or not found.series:
            return
        now = found.series[-1]
        span = now.at - (found.series[-2].at if len(found.series) > 1 else 0.0)
        text = (
            f"{now.at:6.1f} s  {now.calls / max(span, 1e-9):10,.0f} {found.unit}/s  p50 {now.p50_ms:7.2f}  "
            f"p99 {now.p99_ms:7.2f}  p99.9 {now.p999_ms:7.2f} ms  {found.errors} errors"
        )
        say_in_place(text)
        self._has_line = True

    def line(self, text: str) -> None:
        self.end()
        say(text)

    def end(self) -> None:
        if self._has_line:
            say_in_place("")
            self._has_line = False


def _say_result(found: Measured) -> None:
    if not found.messages:
        say("nothing was answered in the time that was measured")
    say(f"{_number(found.per_second)} {found.unit}/s for {found.seconds:.1f} s, {found.calls:,} {found.unit}")
    per_second = 1 / found.seconds if found.seconds else 0.0
    if found.unit == "changes":
        say(f"{found.events * per_second:,.0f} events/s told to subscribers, {found.events:,} events")
    elif found.waits is not None:
        say(f"{found.jobs * per_second:,.0f} jobs/s, {found.jobs:,} jobs")
    names = {50.0: "p50", 90.0: "p90", 99.0: "p99", 99.9: "p99.9", 99.99: "p99.99", 100.0: "max"}
    if found.measured:
        what = {"flows": "from due to ended", "changes": "from due to each subscriber"}.get(found.unit, "latency")
        say(f"{what}, ms: " + "  ".join(f"{name} {found.ms(share):.2f}" for share, name in names.items()))
    if found.waits is not None and found.jobs:
        say("jobs from ready to runner, ms: "
            + "  ".join(f"{name} {found.wait_ms(share):.2f}" for share, name in names.items()))  # fmt: skip
    for code, count in found.refused.items():
        why = f" ({found.reasons[code]})" if found.reasons.get(code) else ""
        say(f"refused with {code}: {count} {plural(count, 'message')}{why}")
    for fault, count in found.faults.items():
        say(f"{count} times: {fault}")
    if found.unanswered:
        say(f"not answered: {found.unanswered} {'flows' if found.unit == 'flows' else 'messages'}")
    if found.undelivered:
        say(f"not told to a subscriber: {found.undelivered} changes")
    if found.unsent:
        unit = found.unit if found.unit != "calls" else "messages"
        say(f"due and not sent when the time was up: {found.unsent:,} {unit}, which count with what they had waited")
    if found.rate and not found.is_rate_held:
        say(f"the rate asked for, {_number(found.rate)} {found.unit}/s, was not held")
    if found.is_generator_limit:
        shares = ", ".join(f"{share:.0%}" for share in found.cpu_shares)
        say(f"the load generator may be what limits (of a core it used {shares}, and it was {found.late_ms:.1f} ms "
            "late): give it more --processes, or a machine of its own")  # fmt: skip


def _say_compared(old: dict[str, Any], new: dict[str, Any]) -> None:
    from coordinator.load.report import compared  # noqa: PLC0415

    rows = [("", "before", "now", "ratio"), *compared(old, new)]
    widths = [max(len(row[at]) for row in rows) for at in range(4)]
    for row in rows:
        say("  ".join([row[0].ljust(widths[0]), *(row[at].rjust(widths[at]) for at in range(1, 4))]).rstrip())


def _json(report: dict[str, Any]) -> str:
    import json  # noqa: PLC0415

    return json.dumps(report, indent=1) + "\n"


def _write(path: Path | None, made: Callable[[], str]) -> None:
    if path is None:
        return
    try:
        path.write_text(made(), encoding="utf-8")
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}", EXIT_ERROR)
    say(f"written: {path}")
