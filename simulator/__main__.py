"""`python -m simulator`: simulate a deployment that serves a trace."""

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from simulator.cli import HELP, Figures, hydra_command, print_summary
from simulator.cluster import groups_of
from simulator.config import VERSION, build, files_of, resolved
from simulator.output import write_result
from simulator.results import Result, client_figures, client_warnings
from simulator.simulation import simulate


def main() -> None:
    """Run the command line."""
    hydra_command.run(_simulate, HELP)


def _simulate(config: DictConfig, folder: Path) -> Figures:
    arguments = build(config)
    result = _with_progress(arguments)
    clients = client_figures(result)
    groups = [group.describe() for group in groups_of(arguments["deployment"])]
    about = {"clients": clients, "config": resolved(config), "groups": groups, "version": VERSION}
    about["warnings"] = [warning.text for warning in (*result.warnings, *client_warnings(clients))]
    write_result(result, folder, about, files_of(config))
    console = Console()
    print_summary(result.summary | about, console)
    console.print(f"written to {folder}", style="dim", soft_wrap=True, highlight=False, markup=False)
    return _figures(result.summary)


def _figures(summary: dict[str, Any]) -> Figures:
    """Return the columns of a run in sweep.csv: its scalar metrics.

    Those of faults are included only if there were any.
    """
    figures: dict[str, Any] = {}
    for name, value in summary.items():
        if name == "faults" and not any(value[f"num_{kind}"] for kind in ("failures", "slowdowns", "network")):
            continue
        if isinstance(value, dict) and name not in ("iteration_time", "bubbles"):
            figures |= {f"{name}.{key}": entry for key, entry in value.items() if not isinstance(entry, dict | list)}
        elif isinstance(value, int | float):
            figures[name] = value
    return figures


class _Rate(ProgressColumn):
    """Requests finished per second of wall-clock time."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "-/s", style="progress.data.speed")


def _with_progress(arguments: dict[str, Any]) -> Result:
    """Simulate, with a progress bar if stderr is a terminal."""
    if not sys.stderr.isatty():
        return simulate(**arguments)
    columns = (
        TextColumn("simulating"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("requests"),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("requests", total=len(arguments["trace"]))
        return simulate(**arguments, progress=lambda count: bar.update(task, completed=count))


if __name__ == "__main__":
    main()
