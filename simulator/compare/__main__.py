"""`python -m simulator.compare`: a comparison of runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from simulator.cli import run_command, terminal_table
from simulator.compare.drawing import STATISTICS, draw
from simulator.compare.run import Run
from simulator.compare.runs import read_run
from simulator.output import UsageError, parse
from simulator.results import LATENCIES, Column, count, flat, latency_column, share, side_by_side
from traces.shared.atomic_files import write_csv
from traces.shared.terminal import facts, note, show, warn

HELP = """\
Compares runs side by side, in a table and a figure; differences are relative to the first run.

  python -m simulator.compare RUN RUN ... [output=FOLDER]

  RUN            an output folder of `python -m simulator`, a summary.json, or measured results: the JSON
                 file of `vllm bench serve --save-result` (with --save-detailed, percentiles are exact),
                 AIPerf's profile_export_aiperf.json, or a stage or summary of inference-perf
  NAME=RUN       the same, labelled NAME
  output=FOLDER  folder for comparison.csv and comparison.png; default: comparison

Exit status: 0, 2 for invalid input."""

_COLUMNS = (
    Column("requests finished", "requests finished", count),
    Column("requests_per_s", "requests/s"),
    Column("output_tokens_per_s", "output tokens/s"),
    Column("goodput", "goodput", share),
    Column("good_requests_per_s", "goodput, requests/s"),
    *(latency_column(metric, statistic) for metric in LATENCIES for statistic in STATISTICS),
)


def main() -> None:
    """Run the command line."""
    run_command(_compare, HELP)


def _compare(arguments: Sequence[str], console: Console) -> None:
    runs_by_name, options = parse(arguments, {"output": "comparison"})
    folder = Path(options["output"])
    runs = [replace(read_run(path), name=name) for name, path in runs_by_name.items()]
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"output={folder} is not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    figures = [_figures(run) for run in runs]
    rows = [(column.name, *(own.get(column.name) for own in figures)) for column in _COLUMNS]
    known = [row for row in rows if any(value is not None for value in row[1:])]
    write_csv(folder / "comparison.csv", ["figure", *(run.name for run in runs)], known)
    draw(runs, folder / "comparison.png")
    heads = [f"{run.name}\n{'measured' if run.measured else 'simulated'}" for run in runs]
    show(console, facts((run.name, run.title or ("measured" if run.measured else "simulated")) for run in runs), "")
    table = side_by_side("Comparison", "", _COLUMNS, dict(zip(heads, figures, strict=True)))
    show(console, terminal_table(table), "")
    for run in runs:
        for text in run.notes:
            warn(console, f"{run.name}: {text}", "note")
    note(console, f"written to {folder}")


def _figures(run: Run) -> dict[str, Any]:
    """Return the figures of a run by name; None: unknown."""
    finished = None if run.num_finished is None else float(run.num_finished)
    goodput = {"goodput": run.goodput, "good_requests_per_s": run.good_requests_per_s}
    return {"requests finished": finished, **run.throughputs, **goodput, **flat(run.latencies)}


if __name__ == "__main__":
    main()
