"""`python -m simulator.report`: one page about a run, or about several side by side."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from simulator.report.page import page
from simulator.run_arguments import UsageError, parse
from simulator.saved_run import load_result, load_summary
from simulator.terminal import run_command
from traces.whole_files import whole_file

USAGE = """\
Writes one self-contained HTML page about a run, or about several runs side by side.

  python -m simulator.report RUN [RUN ...] [output=FILE]

  RUN            a folder of `python -m simulator`
  NAME=RUN       the same, shown as NAME
  output=FILE    the page; default: report.html in the folder of the run, of several runs here

Exit status: 0, 2 for a mistake in the input."""


def main() -> None:
    """Run the command line."""
    run_command(_report, USAGE)


def _report(arguments: Sequence[str], console: Console) -> None:
    asked = parse(arguments, {"output": ""})
    folders = list(asked.runs.values())
    default = folders[0] / "report.html" if len(folders) == 1 else Path("report.html")
    path = Path(asked.options["output"] or default)
    if path.is_dir():
        raise UsageError(f"output={path} is a folder; it must be a file")
    runs = {name: (load_result(folder), load_summary(folder)) for name, folder in asked.runs.items()}
    text = page(runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(text)
    console.print(f"written to {path}", style="dim", soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    main()
