"""`python -m simulator.report`: an HTML report of finished simulations."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from simulator.cli import run_command
from simulator.config import one_line
from simulator.output import REPORT, SUMMARY, RunError, UsageError, load_result, load_summary, parse, read_json
from simulator.report.capacity_page import capacity_page
from simulator.report.page import Page, render
from simulator.report.run_page import SUMMARY_KEYS, run_page
from simulator.report.search_page import search_page
from simulator.report.sweep_page import sweep_page
from traces.shared.atomic_files import atomic_file

HELP = """\
Writes a self-contained HTML report of one run, or of several runs side by side; of a sweep, a capacity or a search.

  python -m simulator.report RUN [RUN ...] [output=FILE]
  python -m simulator.report SWEEP | CAPACITY | SEARCH [output=FILE]

  RUN            folder of a `python -m simulator` run
  SWEEP          folder of a sweep (-m) of `python -m simulator` or `python -m simulator.capacity`
  CAPACITY       folder of `python -m simulator.capacity`
  SEARCH         folder of `python -m simulator.search`
  NAME=RUN       the same, labelled NAME
  output=FILE    the report; default: report.html in the given folder, or in the current folder for several runs

Exit status: 0, 2 for invalid input."""


def main() -> None:
    """Run the command line."""
    run_command(_report, HELP)


def _report(arguments: Sequence[str], console: Console) -> None:
    runs, options = parse(arguments, {"output": ""})
    folders = list(runs.values())
    default = folders[0] / REPORT if len(folders) == 1 else Path(REPORT)
    path = Path(options["output"] or default)
    if path.is_dir():
        raise UsageError(f"output={path} is a folder; it must be a file")
    if path.suffix not in (".html", ".htm"):
        raise UsageError(f"output={path} must end in .html")
    if options["output"] and not path.parent.is_dir():
        raise UsageError(f"output={path}: there is no folder {path.parent}")
    text = render(_page(runs))
    with atomic_file(path) as file:
        file.write(text)
    console.print(f"written to {path}", style="dim", soft_wrap=True, highlight=False, markup=False)


# Pages of results other than runs, by the file that tells them.
_PAGES = {"sweep.csv": sweep_page, "search.json": search_page, "capacity.json": capacity_page}


def _page(folders: Mapping[str, Path]) -> Page:
    """Return the page of the folders, recognised by their files.

    Raises:
        UsageError: A folder has none of these files, or one that is not a run is given beside others.
        RunError: A run cannot be loaded.
    """
    for name, folder in folders.items():
        kind = next((kind for kind in _PAGES if (folder / kind).is_file()), None)
        if kind is not None:
            if len(folders) > 1:
                raise UsageError(f"{name} has a {kind}: a report is of several runs, or of it alone")
            return _page_of(kind, name, folder)
        if folder.is_dir() and not (folder / SUMMARY).is_file():
            raise UsageError(f"{folder} is not a folder of a run, a sweep, a search or a capacity")
    results = {name: load_result(path) for name, path in folders.items()}
    summaries = {name: load_summary(path) | read_json(path / SUMMARY, *SUMMARY_KEYS) for name, path in folders.items()}
    return run_page({name: (results[name], summaries[name]) for name in folders})


def _page_of(kind: str, name: str, folder: Path) -> Page:
    """Return the page of a sweep, a capacity or a search.

    Raises:
        UsageError: Its file is damaged.
        RunError: Its file cannot be read, or lacks a part.
    """
    try:
        return _PAGES[kind](name, folder)
    except (UsageError, RunError):
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"{folder / kind} is damaged ({type(error).__name__}: {one_line(error)})") from error


if __name__ == "__main__":
    main()
