"""`python -m bench`: runs scenarios, prints a table, writes JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import click

from bench import malice, memory, odd_clients, plots, report, stacks, tenants
from bench.compare import Plan, compare
from bench.load import LoadFailed
from bench.machine import Cores, facts
from bench.report import Results
from bench.scenarios import SCENARIOS, Scenario
from bench.servers import ServerFailed
from coordinator.settings import Settings

MEMORY: Final = "memory"
TENANTS: Final = "tenants"
FAIRNESS: Final = "fairness"
MALICE: Final = "malice"
ODD_CLIENTS: Final = "odd-clients"
GROUPS: Final = (
    *dict.fromkeys(scenario.group for scenario in SCENARIOS),
    MEMORY,
    TENANTS,
    FAIRNESS,
    MALICE,
    ODD_CLIENTS,
)
RESULTS: Final = Path(__file__).parent / "results"
WARM_UP: Final = 0.25  # of the seconds measured
DEFAULT_FSYNC: Final[str] = Settings.model_fields["fsync"].default


def _note(text: str) -> None:
    click.echo(text, err=True)


def _step(text: str) -> None:
    _note(f"  {text}")


def _chosen(groups: tuple[str, ...], row: str, quick: bool) -> tuple[list[Scenario], list[str]]:
    """What can be run here of these groups, or else of all that such a run has; and what is left out, and why.

    It runs only rows whose words contain `row`.
    """
    missing = {name: lack for name in stacks.NAMES if (lack := stacks.missing(name))}
    left_out = [f"Left out: every row of {name}, which needs {lack}." for name, lack in missing.items()]
    wanted = [
        scenario
        for scenario in SCENARIOS
        if (scenario.group in groups or (not groups and (scenario.quick or not quick))) and row in scenario.shape
    ]
    return [left for scenario in wanted if (left := scenario.without(missing))], left_out


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--quick", is_flag=True, help="A look, not a measurement: a third of it, a round of half a second, few contexts."
)
@click.option("--rounds", type=click.IntRange(1), help="Rounds of each scenario.  [default: 3]")
@click.option("--seconds", type=click.FloatRange(0.1), help="Measured on each server in a round.  [default: 0.6]")
@click.option(
    "--only",
    type=click.Choice(GROUPS),
    multiple=True,
    metavar="SCENARIO",
    help=f"Run this one; may be given again. One of: {', '.join(GROUPS)}.",
)
@click.option("--row", default="", metavar="TEXT", help="Run only rows whose words contain this: '20 conn., window 1'.")
@click.option(
    "--fsync",
    type=click.Choice(["always", "everysec"]),
    default=DEFAULT_FSYNC,
    show_default=True,
    help="Of coordinators, and of the stores of their peers, where the scenario does not say.",
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
    row: str,
    fsync: str,
    patience: float,
    data_root: Path,
    json_path: Path | None,
) -> None:
    """Measure the coordinator beside its peers, and beside the bare libraries it stands on.

    Starts every server and the load generator itself. In each round a scenario runs on ours and on those it is
    compared with, one right after the other; ratios are taken within the round, and the tables on standard output
    have the medians of the rounds. Progress goes to standard error. A wrong reply anywhere ends it with status 1.

    \b
    python -m bench                       everything, about 19 minutes; draws the plots
    python -m bench --quick               a third of it, to see that it runs: under 2 minutes
    python -m bench --only ws-load --only http-load --rounds 9 --seconds 5
    """
    seconds = seconds or (0.5 if quick else 0.6)
    plan = Plan(
        rounds=rounds or (1 if quick else 3),
        seconds=seconds,
        warm_up=seconds * WARM_UP,
        cores=Cores.choose(),
        data_root=data_root,
        fsync=fsync,
        patience=patience,
    )
    about = facts(data_root)
    scenarios, left_out = _chosen(only, row, quick)
    results = Results(left_out)
    for line in left_out:
        _note(line)
    try:
        for scenario in scenarios:
            _note(f"{scenario.group}, {scenario.shape}")
            results.comparisons.append(compare(scenario, plan, _step))
        if not only or MEMORY in only:
            _note("memory of retired contexts")
            results.memory = memory.measure(plan, memory.QUICK_STEPS if quick else memory.STEPS, _step)
        if not only or TENANTS in only:
            _note("many tenants")
            for size in tenants.QUICK if quick else tenants.FULL:
                results.tenants.append(tenants.many(plan, size, _step))
        if not only or FAIRNESS in only:
            _note("a hostile tenant")
            results.fairness = tenants.fairness_on(tenants.SERVERS[:1] if quick else tenants.SERVERS, plan, _step)
        if not only or MALICE in only:
            _note("malice")
            results.malice = malice.suffered(malice.QUICK if quick else (*malice.FLOODS, *malice.DEAF), plan, _step)
        if not only or ODD_CLIENTS in only:
            _note("odd clients")
            results.odd_clients = odd_clients.measure(plan, _step, is_quick=quick)
        failure = None
    except (LoadFailed, ServerFailed) as error:
        failure = f"failed: {error}"
    click.echo(report.as_text(plan, about, results))
    json_path = json_path or RESULTS / time.strftime("%Y%m%dT%H%M%S.json")
    json_path.parent.mkdir(parents=True, exist_ok=True)
    json_path.write_text(json.dumps(report.as_json(plan, about, results), indent=1) + "\n")
    _note(f"every round is in {json_path}")
    if failure:
        _note(failure)
        sys.exit(1)
    if not quick and not only:
        for drawn in plots.draw(json_path, plots.DIRECTORY):
            _note(f"drawn: {drawn}")


if __name__ == "__main__":
    main(prog_name="python -m bench")
