"""`python -m bench`: runs scenarios, prints a table, writes JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import click

from bench import memory, report
from bench.compare import Comparison, Plan, compare
from bench.load import LoadFailed
from bench.machine import Cores, facts
from bench.memory import MemoryStep
from bench.scenarios import SCENARIOS
from bench.servers import ServerFailed
from coordinator.settings import Settings

MEMORY: Final = "memory"
GROUPS: Final = (*dict.fromkeys(scenario.group for scenario in SCENARIOS), MEMORY)
RESULTS: Final = Path(__file__).parent / "results"
WARM_UP: Final = 0.25  # of the seconds measured
DEFAULT_FSYNC: Final[str] = Settings.model_fields["fsync"].default


def _note(text: str) -> None:
    click.echo(text, err=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--quick", is_flag=True, help="A look, not a measurement: one round of half a second, few contexts.")
@click.option("--rounds", type=click.IntRange(1), help="Rounds of each scenario.  [default: 5]")
@click.option("--seconds", type=click.FloatRange(0.1), help="Measured on each server in a round.  [default: 1]")
@click.option(
    "--only",
    type=click.Choice(GROUPS),
    multiple=True,
    metavar="SCENARIO",
    help=f"Run this one; may be given again. One of: {', '.join(GROUPS)}.",
)
@click.option(
    "--fsync",
    type=click.Choice(["always", "everysec"]),
    default=DEFAULT_FSYNC,
    show_default=True,
    help="Of the coordinator, where the scenario does not say.",
)
@click.option(
    "--patience",
    type=click.FloatRange(0),
    default=0.0,
    metavar="SECONDS",
    help="On a shared machine: how long a scenario may look for undisturbed rounds.  [default: 0]",
)
@click.option(
    "--data-root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path(tempfile.gettempdir()),
    show_default=True,
    help="Where the coordinators' temporary data directories go: choose the disk fsync is measured on.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where every round is written to.  [default: a new file in bench/results]",
)
def main(
    *,
    quick: bool,
    rounds: int | None,
    seconds: float | None,
    only: tuple[str, ...],
    fsync: str,
    patience: float,
    data_root: Path,
    json_path: Path | None,
) -> None:
    """Measure the coordinator beside the bare libraries it stands on.

    Starts every server and the load generator itself. In each round a scenario runs on ours and on its peer one
    right after the other; the ratio is taken within the round, and the table on standard output has the median of
    the rounds. Progress goes to standard error. A wrong reply anywhere ends it with status 1.

    \b
    python -m bench                       everything, about 8 minutes
    python -m bench --quick               everything, to see that it runs: under 2 minutes
    python -m bench --only ws-load --only http-load --rounds 9 --seconds 5
    """
    seconds = seconds or (0.5 if quick else 1.0)
    plan = Plan(
        rounds=rounds or (1 if quick else 5),
        seconds=seconds,
        warm_up=seconds * WARM_UP,
        cores=Cores.choose(),
        data_root=data_root,
        fsync=fsync,
        patience=patience,
    )
    about = facts(data_root)
    wanted = only or GROUPS
    comparisons: list[Comparison] = []
    steps: list[MemoryStep] = []
    try:
        for scenario in SCENARIOS:
            if scenario.group in wanted:
                _note(f"{scenario.group}, {scenario.shape}: {scenario.subject.name} : {scenario.reference.name}")
                comparisons.append(compare(scenario, plan, lambda text: _note(f"  {text}")))
        if MEMORY in wanted:
            _note("memory of retired contexts")
            counts = memory.QUICK_STEPS if quick else memory.STEPS
            steps = memory.measure(plan, counts, lambda text: _note(f"  {text}"))
    except (LoadFailed, ServerFailed) as error:
        _note(f"failed: {error}")
        sys.exit(1)
    click.echo(report.header(plan, about, comparisons))
    if comparisons:
        click.echo("\n" + report.comparison_table(comparisons))
    if steps:
        click.echo("\n" + report.memory_table(steps))
    json_path = json_path or RESULTS / time.strftime("%Y%m%dT%H%M%S.json")
    json_path.parent.mkdir(parents=True, exist_ok=True)
    json_path.write_text(json.dumps(report.as_json(plan, about, comparisons, steps), indent=1) + "\n")
    _note(f"every round is in {json_path}")


if __name__ == "__main__":
    main(prog_name="python -m bench")
