"""`python -m simulator.report`: an HTML report of one or several runs."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from simulator.cli import run_command
from simulator.output import REPORT, UsageError, load_result, load_summary, parse
from simulator.report.page import page
from traces.shared.atomic_files import atomic_file

HELP = """\
Writes a self-contained HTML report of one run, or of several runs side by side.

  python -m simulator.report RUN [RUN ...] [output=FILE]

  RUN            folder of a `python -m simulator` run
  NAME=RUN       the same, labelled NAME
  output=FILE    the report; default: report.html in the folder of the run, or in the current folder for several runs

Exit status: 0, 2 for invalid input."""


def main() -> None:
    """Run the command line."""
    run_command(_report, HELP)


def _report(arguments: Sequence[str], console: Console) -> None:
    parsed = parse(arguments, {"output": ""})
    folders = list(parsed.runs.values())
    default = folders[0] / REPORT if len(folders) == 1 else Path(REPORT)
    path = Path(parsed.options["output"] or default)
    for name, folder in parsed.runs.items():
        if any((folder / file_name).is_file() for file_name in ("sweep.csv", "search.json", "capacity.json")):
            raise UsageError(f"{name} is not a run: python -m simulator.plot draws sweeps, searches and capacities")
    if path.is_dir():
        raise UsageError(f"output={path} is a folder; it must be a file")
    if path.suffix not in (".html", ".htm"):
        raise UsageError(f"output={path} must end in .html")
    if parsed.options["output"] and not path.parent.is_dir():
        raise UsageError(f"output={path}: there is no folder {path.parent}")
    runs = {name: (load_result(folder), load_summary(folder)) for name, folder in parsed.runs.items()}
    text = page(runs)
    with atomic_file(path) as file:
        file.write(text)
    console.print(f"written to {path}", style="dim", soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    main()
