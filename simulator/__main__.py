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

from simulator.cli import HELP, WARNINGS_JOINT, Figures, hydra_command, print_summary
from simulator.config import build, build_slo, description, files_of
from simulator.core import in_use
from simulator.launch import with_launch
from simulator.output import write_result
from simulator.results import Result, client_figures, client_warnings
from simulator.simulation import simulate
from traces.shared.terminal import note


def main() -> None:
    """Run the command line."""
    hydra_command.run(_simulate, HELP, read_launch=with_launch)


def _simulate(config: DictConfig, folder: Path) -> Figures:
    arguments = build(config)
    deployment = arguments["deployment"]
    slo = build_slo(config.slo, deployment)
    result = _with_progress(arguments)
    clients = client_figures(result)
    about: dict[str, Any] = {
        "slo": slo.figures(result) if slo else None,
        "clients": clients,
        "core": in_use(),
        **description(config, deployment),
    }
    about["warnings"] = [warning.text for warning in (*result.warnings, *client_warnings(clients))]
    write_result(result, folder, about, files_of(config))
    console = Console()
    print_summary(result.summary | about, console)
    note(console, f"written to {folder}")
    figures = _figures(result.summary) | _slo_figures(about["slo"])
    return figures | {"warnings": WARNINGS_JOINT.join(about["warnings"])}


def _figures(summary: dict[str, Any]) -> dict[str, Any]:
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


def _slo_figures(slo: dict[str, Any] | None) -> dict[str, Any]:
    return {f"slo.{name}": slo[name] for name in ("met", "goodput", "goodput_qps")} if slo else {}


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
