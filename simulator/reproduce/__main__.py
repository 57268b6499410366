"""`python -m simulator.reproduce`: the paper's experiments, compared with its numbers."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from joblib import Parallel, cpu_count, delayed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from simulator.cli import run_command
from simulator.config import ConfigError, require_integer
from simulator.reproduce.drawing import draw
from simulator.reproduce.figures import FIGURES, Job, complete, plan
from simulator.reproduce.report import print_rows, write

HELP = """\
Runs the experiments of Sarathi-Serve (OSDI 2024) and prints paper | simulated | difference for every number.

  python -m simulator.reproduce figure=10 [key=value ...]
  python -m simulator.reproduce figure=10,11 table=4 output=reproduction
  python -m simulator.reproduce all

  figure=5|6|9|10|11|12|13|14  figures, separated by commas
  table=4                      ablation with chunks of 512 and 1024 tokens
  all                          all of the above
  output=reproduction          folder for reproduction.csv (overwritten) and a plot of each figure
  seeds=1                      searches per capacity, whose mean is reported
  workers=N                    number of processes; default: one per core

Other overrides, such as engine=none or seed=1, apply to every experiment; see `python -m simulator --help`.
Exit status: 0, 2 for invalid input, 130 if interrupted."""


def main() -> None:
    """Run the command line."""
    run_command(_reproduce, HELP)


def _reproduce(arguments: Sequence[str], console: Console) -> None:
    figures, counts, folder, overrides = _parse(arguments)
    planned = [row for figure in figures for row in plan(figure, overrides, counts["seeds"])]
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output={folder} is not a folder")
    rows = complete(planned, run_jobs([row.job for row in planned], counts["workers"]))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "reproduction.csv"
    write(rows, path)
    print_rows(rows, console)
    plots = [draw(figure, rows, folder) for figure in figures]
    written = ", ".join(map(str, (path, *plots)))
    console.print(f"written to {written}", style="dim", soft_wrap=True, highlight=False, markup=False)


def run_jobs(jobs: Iterable[Job], workers: int) -> dict[Job, dict[str, float]]:
    """Run each different experiment once, in parallel."""
    unique = list(dict.fromkeys(jobs))
    columns = (TextColumn("experiments"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        results = Parallel(n_jobs=workers, return_as="generator")(delayed(job.run)(*job.arguments) for job in unique)
        return dict(zip(unique, bar.track(results, total=len(unique)), strict=True))


def _parse(arguments: Sequence[str]) -> tuple[list[str], dict[str, int], Path, list[str]]:
    """Return the figures, workers and seeds, the folder, and the other overrides."""
    chosen: list[str] = []
    counts = {"workers": cpu_count(), "seeds": 1}
    folder, overrides = Path("reproduction"), list[str]()
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument == "all":
            chosen += FIGURES
        elif not equals:
            raise ConfigError(f"{argument} is not an argument; allowed are: all, figure=, table=, output=, key=value")
        elif name in ("figure", "table"):
            chosen += [_figure(name, number) for number in value.split(",")]
        elif name == "output":
            folder = Path(value)
        elif name in counts:
            counts[name] = require_integer(int(value) if value.isdecimal() else value, name, 1)
        else:
            _reject_settings_of_the_paper(argument)
            overrides.append(argument)
    if not chosen:
        raise ConfigError("nothing to reproduce: name all, figure=10 or table=4; see --help")
    return list(dict.fromkeys(chosen)), counts, folder, overrides


def _reject_settings_of_the_paper(override: str) -> None:
    """Check that an override does not change a setting of the paper."""
    group = override.lstrip("+").partition("=")[0].partition(".")[0]
    if group in ("model", "device", "deployment", "experiment", "trace", "arrival", "scheduler", "slo", "parallel"):
        raise ConfigError(f"{override}: {group} is a setting of the paper; use `python -m simulator` to change it")


def _figure(kind: str, number: str) -> str:
    figure = f"table {number}" if kind == "table" else number
    if figure not in FIGURES:
        allowed = [name.removeprefix("table ") for name in FIGURES if name.startswith("table") == (kind == "table")]
        raise ConfigError(f"{kind}={number}: must be one of {', '.join(allowed)}")
    return figure


if __name__ == "__main__":
    main()
