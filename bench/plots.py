"""`python -m bench.plots RESULT.json`: charts of a run, as SVG.

The text stays text, in a grey that reads on white and on black, and the background is left to the page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

__all__ = ["DIRECTORY", "Panel", "Values", "draw", "values_of"]

DIRECTORY: Final = Path(__file__).parent / "plots"
COLOURS: Final = {
    "coordinator": "#2f81f7",
    "FastAPI": "#1aa179",
    "Fastify": "#d29922",
    "jsonrpsee": "#db61a2",
    "picows": "#f0883e",
    "uvicorn": "#f0883e",
    "coalesced echo": "#a371f7",
    "bare echo": "#8b949e",
    "bare Hypercorn": "#8b949e",
}
_WORKING: Final = ("coordinator", "FastAPI", "Fastify", "jsonrpsee")
_GREY: Final = "#7d8590"
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",  # the same figures, the same file
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],  # it is measured in the first, and shown in what there is
    "font.size": 9,
    "text.color": _GREY,
    "axes.labelcolor": _GREY,
    "axes.edgecolor": _GREY,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


class Panel(NamedTuple):
    """One chart: what is shown of which scenarios; a group of bars for each of those."""

    title: str
    group: str
    value: str = "calls_per_second"
    window: int | None = None
    """Only scenarios with this one."""
    servers: tuple[str, ...] = tuple(COLOURS)


class Values(NamedTuple):
    """Attributes: `labels` of the groups; `of`: server → a value a group, None where it was not measured."""

    labels: list[str]
    of: dict[str, list[float | None]]


PANELS: Final = {
    "websocket": (
        Panel("WebSocket job.load, window 64", "ws-load", window=64),
        Panel("WebSocket job.load, window 1", "ws-load", window=1),
        Panel("WebSocket job.create, window 64", "ws-create", window=64),
        Panel("WebSocket job.create, window 1", "ws-create", window=1),
    ),
    "http": (Panel("HTTP job.load", "http-load"), Panel("HTTP job.create", "http-create")),
    "batches": (
        # Without bare Hypercorn, whose canned reply is as quick however many calls it is to.
        Panel("batches of 100 over WebSocket", "ws-batch", servers=_WORKING),
        Panel("batches of 100 over HTTP", "http-batch", servers=_WORKING),
    ),
    "latency": (
        Panel("WebSocket job.load, window 1: p50", "ws-load", "p50_ms", 1),
        Panel("WebSocket job.load, window 1: p99", "ws-load", "p99_ms", 1),
        Panel("HTTP job.load: p50", "http-load", "p50_ms"),
        Panel("HTTP job.load: p99", "http-load", "p99_ms"),
    ),
}


def values_of(panel: Panel, scenarios: Iterable[dict[str, Any]]) -> Values:
    """What a panel shows of the `scenarios` in a result file."""
    shown = [
        item
        for item in scenarios
        if item["scenario"]["group"] == panel.group and panel.window in (None, item["scenario"]["window"])
    ]
    several_kinds = len({item["scenario"]["calls"] for item in shown}) > 1
    labels = [
        f"{item['scenario']['connections']:,}" + (f"\n{item['scenario']['calls']}" if several_kinds else "")
        for item in shown
    ]
    names = [name for name in panel.servers if any(name in item["medians"] for item in shown)]
    values = {name: [item["medians"].get(name, {}).get(panel.value) for item in shown] for name in names}
    return Values(labels, values)


def draw(result: Path, directory: Path) -> list[Path]:
    """Draw what a result file has the scenarios for. Returns the files."""
    scenarios = json.loads(result.read_text())["scenarios"]
    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, panels in PANELS.items():
        charts = [(panel, found) for panel in panels if (found := values_of(panel, scenarios)).labels]
        if charts:
            path = directory / f"{name}.svg"
            with mpl.rc_context(_STYLE):
                _figure(charts).savefig(path, metadata={"Date": None, "Creator": None})
            drawn.append(path)
    return drawn


def _figure(charts: list[tuple[Panel, Values]]) -> Figure:
    rows = (len(charts) + 1) // 2
    figure = Figure(figsize=(9.0, 0.5 + 2.7 * rows), layout="constrained")
    legend = {}
    for at, (panel, found) in enumerate(charts):
        axes = figure.add_subplot(rows, min(2, len(charts)), at + 1)
        (_points if panel.value.endswith("_ms") else _columns)(axes, found)
        axes.set_title(panel.title, fontsize=10)
        axes.set_xticks(range(len(found.labels)), found.labels)
        axes.set_xlim(-0.5, len(found.labels) - 0.5)
        axes.set_xlabel("connections")
        axes.yaxis.set_major_formatter("{x:,.10g}")
        legend.update({name: Patch(color=COLOURS[name]) for name in found.of})
    figure.legend([*legend.values()], [*legend], loc="outside upper center", ncols=len(legend))
    return figure


def _columns(axes: Axes, found: Values) -> None:
    """Calls a second."""
    width = 0.8 / len(found.of)
    for place, (name, values) in enumerate(found.of.items()):
        places = [group + (place + 0.5) * width - 0.4 for group in range(len(values))]
        axes.bar(places, [value or 0.0 for value in values], width * 0.92, color=COLOURS[name])
    axes.set_ylabel("calls a second")


def _points(axes: Axes, found: Values) -> None:
    """Latencies, from well below a millisecond to hundreds."""
    for name, values in found.of.items():
        heights = [math.nan if value is None else value for value in values]
        axes.plot(range(len(values)), heights, marker="o", markersize=4, linewidth=1, color=COLOURS[name])
    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("ms")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("result", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--directory", type=click.Path(path_type=Path, file_okay=False), default=DIRECTORY, help="[default: bench/plots]"
)
def main(*, result: Path, directory: Path) -> None:
    """Draw the RESULT of a run, a JSON file that `python -m bench` wrote."""
    for path in draw(result, directory):
        click.echo(path)


if __name__ == "__main__":
    main(prog_name="python -m bench.plots")
