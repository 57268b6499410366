"""`python -m simulator.compare`: a comparison of runs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from simulator.cli import run_command
from simulator.compare.drawing import STATISTICS, draw
from simulator.compare.run import THROUGHPUTS, Run
from simulator.compare.runs import read_run
from simulator.output import UsageError, parse
from simulator.results import GOODPUT, LATENCIES, figure, objective_label
from traces.shared.atomic_files import write_csv
from traces.shared.terminal import facts, new_table, note, show, warn

HELP = """\
Compares runs side by side, in a table and a figure; differences are relative to the first run.

  python -m simulator.compare RUN RUN ... [output=FOLDER]

  RUN            an output folder of `python -m simulator`, a summary.json, or measured results: the JSON
                 file of `vllm bench serve --save-result` (with --save-detailed, percentiles are exact),
                 AIPerf's profile_export_aiperf.json, or a stage or summary of inference-perf
  NAME=RUN       the same, labelled NAME
  output=FOLDER  folder for comparison.csv and comparison.png; default: comparison

Exit status: 0, 2 for invalid input."""


def main() -> None:
    """Run the command line."""
    run_command(_compare, HELP)


def _compare(arguments: Sequence[str], console: Console) -> None:
    parsed = parse(arguments, {"output": "comparison"})
    folder = Path(parsed.options["output"])
    runs = [replace(read_run(path), name=name) for name, path in parsed.runs.items()]
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"output={folder} is not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(comparison_rows(runs))
    write_csv(folder / "comparison.csv", ("figure", *(run.name for run in runs)), ((name, *row) for name, row in rows))
    draw(runs, folder / "comparison.png")
    _print(runs, rows, console)
    note(console, f"written to {folder}")


def comparison_rows(runs: Sequence[Run]) -> Iterator[tuple[str, list[float | None]]]:
    """Yield the name and the values of each metric.

    Metrics that no run has are left out. There is one value per run; None: unknown.
    """
    finished = [None if run.num_finished is None else float(run.num_finished) for run in runs]
    rows: list[tuple[str, list[float | None]]] = [("requests finished", finished)]
    rows += [(name, [run.throughputs[name] for run in runs]) for name in THROUGHPUTS]
    rows += [
        ("goodput", [run.goodput for run in runs]),
        ("good_requests_per_s", [run.good_requests_per_s for run in runs]),
    ]
    for latency in LATENCIES:
        rows += [
            (f"{latency}.{statistic}", [run.latencies[latency].get(statistic) for run in runs])
            for statistic in STATISTICS
        ]
    return (row for row in rows if any(value is not None for value in row[1]))


def _print(runs: Sequence[Run], rows: Sequence[tuple[str, list[float | None]]], console: Console) -> None:
    show(console, facts((run.name, run.title or ("measured" if run.measured else "simulated")) for run in runs), "")
    table = new_table(["", *(f"{run.name}\n{'measured' if run.measured else 'simulated'}" for run in runs)])
    for name, values in rows:
        label, scale = _label(name)
        shown = [None if value is None else value * scale for value in values]
        cells = [_cell(value, None if index == 0 else shown[0]) for index, value in enumerate(shown)]
        table.add_row(label, *cells)
    show(console, table, "")
    for run in runs:
        for text in run.notes:
            warn(console, f"{run.name}: {text}", "note")


def _label(name: str) -> tuple[str, float]:
    """Return the label of a metric, and the factor to its unit."""
    if name == GOODPUT:
        return "goodput, %", 100.0
    latency, _, statistic = name.partition(".")
    if latency not in LATENCIES:
        return name.replace("_per_s", "/s").replace("_", " "), 1.0
    objective = f"{latency.removesuffix('_s')}_{statistic}"
    return f"{objective_label(objective)}, ms", 1e3


def _cell(value: float | None, first: float | None) -> str:
    if value is None:
        return "-"
    difference = f" ({value / first - 1:+.1%})" if first else ""
    return f"{figure(value)}{difference}"


if __name__ == "__main__":
    main()
