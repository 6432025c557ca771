"""What was measured, as JSON, as Prometheus text, as a page with plots, and beside what was measured before."""

from __future__ import annotations

import html
import io
import json
import math
import os
import platform
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from coordinator import __version__
from coordinator.load.measured import PERCENTILES, Measured
from coordinator.load.plan import Plan

__all__ = ["Unreadable", "as_html", "as_json", "as_prometheus", "compared", "read"]

FORMAT: Final = 1
_SECRET: Final = ("token", "certificate")


class Unreadable(Exception):
    """A file is no report of ours; the text says why."""


def as_json(plan: Plan, server: dict[str, Any], found: Measured, steps: Sequence[Measured] = ()) -> dict[str, Any]:
    """A report. `server`: what the coordinator says of itself; `steps`: of a search for the knee."""
    return {
        "format": FORMAT,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "herocoordinator": __version__,
        "server": server,
        "generator": {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "plan": {name: value for name, value in asdict(plan).items() if name not in _SECRET} | {"kinds": [*plan.kinds]},
        "result": _figures(found),
        "steps": [_figures(step, with_series=False) for step in steps],
    }


def _figures(found: Measured, *, with_series: bool = True) -> dict[str, Any]:
    return {
        "asked_calls_per_s": found.rate or None,
        "calls_per_s": found.per_second,
        "seconds": found.seconds,
        "calls": found.calls,
        "unit": found.unit,
        "messages": found.messages,
        "errors": found.errors,
        "refused": dict(found.refused),
        "faults": dict(found.faults),
        "reasons": found.reasons,
        "unanswered": found.unanswered,
        "unsent": found.unsent,
        "latencies": found.measured,
        "undelivered": found.undelivered,
        "fell_behind": found.fell_behind,
        "mean_reply_bytes": found.reply_bytes / found.messages if found.messages else None,
        "latency_ms": {f"p{percentile:g}": _or_none(found.ms(percentile)) for percentile in PERCENTILES}
        | {"max": _or_none(found.ms(100.0))},
        **_of_jobs(found),
        "generator": {
            "cpu_shares": found.cpu_shares,
            "late_p99_ms": found.late_ms,
            "is_the_limit": found.is_generator_limit,
        },
        **(
            {
                "histogram": found.histogram.encode().decode(),
                "series": [
                    {name: _or_none(value) for name, value in asdict(second).items()} for second in found.series
                ],
            }
            if with_series
            else {}
        ),
    }


def _of_jobs(found: Measured) -> dict[str, Any]:
    """What there is to tell where jobs ran, or subscribers were told."""
    per_second = 1 / found.seconds if found.seconds else 0.0
    if found.waits is not None:
        wait_ms = {f"p{percentile:g}": _or_none(found.wait_ms(percentile)) for percentile in (*PERCENTILES, 100.0)}
        wait_ms["max"] = wait_ms.pop("p100")
        waits = found.waits.get_total_count()
        return {"jobs": found.jobs, "jobs_per_s": found.jobs * per_second, "waits": waits, "wait_ms": wait_ms}
    if found.unit == "changes":
        return {"events": found.events, "events_per_s": found.events * per_second}
    return {}


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def read(path: Path) -> dict[str, Any]:
    """A report that `as_json` made. Raises Unreadable."""
    try:
        report = json.loads(path.read_bytes())
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise Unreadable(f"{path} is no JSON: {error}") from None
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise Unreadable(f"{path} is no report of `herocoordinator bench` of this version")
    try:
        _Report.model_validate(report)
        HdrHistogram.decode(report["result"]["histogram"])
    except ValidationError as error:
        first = error.errors()[0]
        raise Unreadable(f"{path} is no whole report: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except Exception:  # whatever comes of bytes that are no histogram
        raise Unreadable(f"{path} is no whole report: result.histogram is none") from None
    return report


class _Read(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)


class _Generator(_Read):
    is_the_limit: bool


class _Second(_Read):
    at: float
    calls: float
    p99_ms: float | None


class _Figures(_Read):
    """What of a result is read again."""

    asked_calls_per_s: float | None
    calls_per_s: float
    unit: str = "calls"
    errors: int
    refused: dict[str, int]
    faults: dict[str, int]
    latency_ms: dict[str, float | None]
    wait_ms: dict[str, float | None] = {}
    jobs_per_s: float | None = None
    events_per_s: float | None = None


class _Result(_Figures):
    generator: _Generator
    histogram: str
    series: list[_Second]


class _Report(_Read):
    """What `compared` and `as_html` read of a report, which may be somebody's, of another version, or cut off."""

    made_at: datetime
    server: dict[str, Any]
    plan: dict[str, Any]
    result: _Result
    steps: list[_Figures]

    @field_validator("plan")
    @classmethod
    def _has_scenario(cls, plan: dict[str, Any]) -> dict[str, Any]:
        if not re.fullmatch(r"[a-z]\w*", str(plan.get("scenario")), re.ASCII):
            raise ValueError("has no scenario")  # which the plots have in their legends
        return plan


def as_prometheus(report: dict[str, Any]) -> str:
    """The figures in Prometheus' text format, for a push gateway or a file that node_exporter reads."""
    result, plan = report["result"], report["plan"]
    labels = f'scenario="{_label(plan["scenario"])}",url="{_label(plan["url"])}"'
    lines = [
        "# HELP herocoordinator_bench_calls_per_second Calls answered, flows ended or changes published, a second.",
        "# TYPE herocoordinator_bench_calls_per_second gauge",
        f"herocoordinator_bench_calls_per_second{{{labels}}} {result['calls_per_s']:.6g}",
        "# HELP herocoordinator_bench_errors Messages that were refused, went wrong or were not answered.",
        "# TYPE herocoordinator_bench_errors gauge",
        f"herocoordinator_bench_errors{{{labels}}} {result['errors']}",
        "# HELP herocoordinator_bench_latency_seconds From when something was due to its answer or arrival.",
        "# TYPE herocoordinator_bench_latency_seconds summary",
    ]
    for name, ms in result["latency_ms"].items():
        if ms is not None and name != "max":
            quantile = round(float(name[1:]) / 100, 6)
            lines.append(f'herocoordinator_bench_latency_seconds{{{labels},quantile="{quantile}"}} {ms / 1000:.6g}')
    lines.append(f"herocoordinator_bench_latency_seconds_count{{{labels}}} {result['latencies']}")
    for key, about in (("jobs", "Jobs that runners finished"), ("events", "Events that came to subscribers")):
        if f"{key}_per_s" in result:
            name = f"herocoordinator_bench_{key}_per_second"
            lines += [f"# HELP {name} {about}, a second.", f"# TYPE {name} gauge"]
            lines.append(f"{name}{{{labels}}} {result[f'{key}_per_s']:.6g}")
    if "wait_ms" in result:
        name = "herocoordinator_bench_wait_seconds"
        lines += [f"# HELP {name} From when a job was ready to its runner.", f"# TYPE {name} summary"]
        for percentile, ms in result["wait_ms"].items():
            if ms is not None and percentile != "max":
                quantile = round(float(percentile[1:]) / 100, 6)
                lines.append(f'{name}{{{labels},quantile="{quantile}"}} {ms / 1000:.6g}')
        lines.append(f"{name}_count{{{labels}}} {result['waits']}")
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# -- beside another


def compared(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rows of a table: what, then, now, and the ratio of now to then. The first rows are what differs in the plans."""
    rows: list[tuple[str, str, str, str]] = []
    for name in sorted(old["plan"].keys() | new["plan"].keys()):
        before, now = old["plan"].get(name), new["plan"].get(name)
        if before != now:
            rows.append((f"{name} (differs)", _planned(name, before), _planned(name, now), ""))
    for title, key, member in _figures_of(new["result"]):
        before, now = (_figure(report["result"], key, member) for report in (old, new))
        ratio = f"{now / before:.3f}" if before and now is not None and title != "errors" else ""
        rows.append((title, _number(before), _number(now), ratio))
    return rows


def _planned(name: str, value: Any) -> str:
    """As it was asked for: the kinds of messages as their shares."""
    if name == "kinds" and isinstance(value, list):
        return ",".join(f"{kind}={count}" for kind, count in Counter(map(str, value)).items())
    return str(value)


def _figures_of(result: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """What is compared: its title, and where it is in a result."""
    return [
        (f"{result.get('unit', 'calls')}/s", "calls_per_s", None),
        *((f"{key}/s", f"{key}_per_s", None) for key in ("jobs", "events") if f"{key}_per_s" in result),
        *((f"{name} ms", "latency_ms", name) for name in result["latency_ms"]),
        *((f"wait {name} ms", "wait_ms", name) for name in result.get("wait_ms", ())),
        ("errors", "errors", None),
    ]


def _figure(result: dict[str, Any], key: str, member: str | None) -> float | None:
    found = result.get(key)
    value: float | None = found if member is None else (found or {}).get(member)
    return value


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"


# -- a page


def as_html(reports: Sequence[dict[str, Any]]) -> str:
    """A page that needs nothing else: the figures of one report or of several, and plots."""
    names = [f"{report['plan']['scenario']} {report['made_at']}" for report in reports]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    rows = []
    for title, cells in _page_rows(reports):
        rows.append(
            f"<tr><th>{html.escape(title)}</th>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
        )
    plots = "".join(f"<figure>{svg}</figure>" for svg in _plots(names, reports))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>HeroCoordinator load report</title><style>'
        "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a2330}"
        "table{border-collapse:collapse}th,td{text-align:left;padding:.2rem .9rem .2rem 0;vertical-align:top}"
        "td{font-variant-numeric:tabular-nums}tr+tr{border-top:1px solid #dde3ea}figure{margin:1.5rem 0}"
        "figure svg{max-width:100%;height:auto}</style></head><body><h1>HeroCoordinator load report</h1>"
        f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>{plots}</body></html>\n"
    )


def _page_rows(reports: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    first = reports[0]
    rows = [(name, [_planned(name, report["plan"].get(name)) for report in reports]) for name in first["plan"]]
    rows.append(("server", [json.dumps(report["server"]) for report in reports]))
    for title, key, member in _figures_of(reports[-1]["result"])[:-1]:
        rows.append((title, [_number(_figure(report["result"], key, member)) for report in reports]))
    rows.append(("errors", [_errors(report["result"]) for report in reports]))
    limit = [str(report["result"]["generator"]["is_the_limit"]) for report in reports]
    rows.append(("the generator was the limit", limit))
    return rows


def _errors(result: dict[str, Any]) -> str:
    what = {**result["refused"], **result["faults"]}
    for name in ("unanswered", "undelivered"):
        if result.get(name):
            what[name] = result[name]
    return ", ".join(f"{name}: {count}" for name, count in what.items()) or "0"


def _plots(names: Sequence[str], reports: Sequence[dict[str, Any]]) -> list[str]:
    import matplotlib as mpl  # noqa: PLC0415 - takes half a second, and most runs draw nothing

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    drawn = []

    def keep(figure: Any) -> None:
        out = io.StringIO()
        figure.tight_layout()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
        _, begins, rest = out.getvalue().partition("<svg")
        drawn.append(begins + re.sub(r"<metadata>.*?</metadata>", "", rest, flags=re.DOTALL))

    figure, axes = plt.subplots(figsize=(8, 3.4))
    for name, report in zip(names, reports, strict=True):
        histogram = HdrHistogram.decode(report["result"]["histogram"])
        shares = [100 - 100 / 10 ** (at / 20) for at in range(101)]
        values = [histogram.get_value_at_percentile(share) / 1000 for share in shares]
        axes.plot([1 / (1 - share / 100) if share < 100 else math.inf for share in shares], values, label=name)
    ticks = [1, 2, 10, 100, 1000, 10_000, 100_000]
    axes.set(xscale="log", xlabel="percentile", ylabel="latency, ms", ylim=(0, None), xlim=(1, 100_000))
    axes.set_xticks(ticks, ["0", "50", "90", "99", "99.9", "99.99", "99.999"])
    axes.legend(fontsize="small")
    keep(figure)
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 5), sharex=True)
    for name, report in zip(names, reports, strict=True):
        series = report["result"]["series"]
        at = [second["at"] for second in series]
        spans = [now - before for before, now in zip([0.0, *at], at, strict=False)]
        above.plot(
            at, [second["calls"] / max(span, 1e-9) for second, span in zip(series, spans, strict=True)], label=name
        )
        below.plot(at, [second["p99_ms"] for second in series], label=f"{name} p99")
    above.set(ylabel=f"{reports[-1]['result'].get('unit', 'calls')}/s", ylim=(0, None))
    below.set(ylabel="p99, ms", xlabel="seconds", ylim=(0, None))
    above.legend(fontsize="small")
    keep(figure)
    if any(report["steps"] for report in reports):
        figure, axes = plt.subplots(figsize=(8, 3.4))
        for name, report in zip(names, reports, strict=True):
            steps = sorted(
                (step["calls_per_s"], step["latency_ms"]["p99"])
                for step in report["steps"]
                if step["asked_calls_per_s"] and step["latency_ms"]["p99"] is not None
            )
            axes.plot([rate for rate, _ in steps], [ms for _, ms in steps], "o-", label=name)
        axes.set(
            xlabel=f"{reports[-1]['result'].get('unit', 'calls')}/s", ylabel="p99, ms", yscale="log", xlim=(0, None)
        )
        axes.legend(fontsize="small")
        keep(figure)
    return drawn
