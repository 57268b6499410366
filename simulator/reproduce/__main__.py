"""`python -m simulator.reproduce`: the paper's experiments, side by side with its numbers."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from joblib import Parallel, cpu_count, delayed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from simulator.cli import run_command
from simulator.config import ConfigError
from simulator.reproduce.drawing import draw
from simulator.reproduce.figures import FIGURES, Job, complete, plan
from simulator.reproduce.report import print_rows, write

HELP = """\
Runs the experiments of Sarathi-Serve (OSDI 2024) and prints paper | simulated | difference for every number.

  python -m simulator.reproduce figure=10 [key=value ...]
  python -m simulator.reproduce figure=10,11 table=4 output=reproduction
  python -m simulator.reproduce all

  figure=5|6|9|10|11|12|13|14  figures, separated by commas
  table=4                      the ablation, at chunks of 512 and 1024
  all                          all of these
  output=reproduction          folder for reproduction.csv (rewritten: the numbers of this run) and a picture
                               of each figure
  seeds=1                      searches for each capacity; their mean counts
  workers=N                    processes; default: one for each core

Other overrides, such as engine=none or seed=1, hold for every experiment; see `python -m simulator --help`.
Exit status: 0, 2 for a mistake in the input, 130 if interrupted."""


def main() -> None:
    """Run the command line."""
    run_command(_reproduce, HELP)


def _reproduce(arguments: Sequence[str], console: Console) -> None:
    asked = _parse(arguments)
    planned = [one for figure in asked.figures for one in plan(figure, asked.more, asked.seeds)]
    folder = asked.folder
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output={folder} is not a folder")
    rows = complete(planned, run_jobs([one.job for one in planned], asked.workers))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "reproduction.csv"
    write(rows, path)
    print_rows(rows, console)
    pictures = [draw(figure, rows, folder) for figure in asked.figures]
    written = ", ".join(str(one) for one in (path, *pictures))
    console.print(f"written to {written}", style="dim", soft_wrap=True, highlight=False, markup=False)


def run_jobs(jobs: Iterable[Job], workers: int) -> dict[Job, dict[str, float]]:
    """Run each different experiment once, several at a time."""
    different = list(dict.fromkeys(jobs))
    columns = (TextColumn("experiments"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        found = Parallel(n_jobs=workers, return_as="generator")(delayed(job.run)(*job.arguments) for job in different)
        return dict(zip(different, bar.track(found, total=len(different)), strict=True))


@dataclass
class _Asked:
    """What the command line says."""

    figures: list[str] = field(default_factory=list)
    folder: Path = Path("reproduction")
    workers: int = field(default_factory=cpu_count)
    seeds: int = 1
    more: list[str] = field(default_factory=list)


def _parse(arguments: Sequence[str]) -> _Asked:
    asked = _Asked()
    chosen: list[str] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument == "all":
            chosen += FIGURES
        elif not equals:
            raise ConfigError(f"{argument} is not an argument; allowed are: all, figure=, table=, output=, key=value")
        elif name in ("figure", "table"):
            chosen += [_figure(name, one) for one in value.split(",")]
        elif name == "output":
            asked.folder = Path(value)
        elif name in ("workers", "seeds"):
            setattr(asked, name, _count(name, value))
        else:
            _refuse_settings_of_the_paper(argument)
            asked.more.append(argument)
    if not chosen:
        raise ConfigError("say what to reproduce: all, figure=10 or table=4; see --help")
    asked.figures = list(dict.fromkeys(chosen))
    return asked


def _refuse_settings_of_the_paper(override: str) -> None:
    """Check that an override leaves the experiments what the paper calls them."""
    group = override.lstrip("+").partition("=")[0].partition(".")[0]
    if group in ("model", "device", "deployment", "experiment", "trace", "arrival", "scheduler", "slo", "parallel"):
        raise ConfigError(f"{override}: {group} is a setting of the paper; run `python -m simulator` with another")


def _figure(kind: str, number: str) -> str:
    figure = f"table {number}" if kind == "table" else number
    if figure not in FIGURES:
        allowed = [one.removeprefix("table ") for one in FIGURES if one.startswith("table") == (kind == "table")]
        raise ConfigError(f"{kind}={number}: must be one of {', '.join(allowed)}")
    return figure


def _count(name: str, value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise ConfigError(f"{name} must be an integer of at least 1, got {value}")
    return int(value)


if __name__ == "__main__":
    main()
