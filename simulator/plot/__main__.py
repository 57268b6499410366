"""`python -m simulator.plot`: pictures of finished runs, sweeps and searches."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from simulator.cli import run_command
from simulator.config import one_line
from simulator.output import UsageError, parse
from simulator.plot.pictures import OF_EACH_RUN, OF_RUNS, OF_SWEEPS, pictures_of
from traces.shared.figure_style import FORMATS, save

HELP = """\
Draws pictures of what the other commands wrote.

  python -m simulator.plot RUN ... [output=FOLDER] [format=png,svg] [plots=latency,stalls,...]

  RUN            a folder of `python -m simulator`; several are drawn together, best of one trace
  SWEEP          a folder of `python -m simulator -m` over arrival.qps, or of `simulator.capacity -m`
  CAPACITY       a folder of `python -m simulator.capacity`
  SEARCH         a folder of `python -m simulator.search`
  NAME=RUN       the same, shown as NAME
  output=plots   folder of the pictures
  format=png     png, svg or both
  plots=all      which: of runs latency (CDFs of TTFT, TBT and end to end), stalls (tokens over time), memory (KV use
                 and queue over time), prefixes (hits and evictions of a prefix cache), batches (prompt tokens and
                 decodes per iteration), pipeline (stages with bubbles, if there are several), roofline (of typical
                 batches); of a sweep or capacity load (latency against load, with its knee) and capacity (against
                 the SLO); of a search pareto (cost against latency)

Exit status: 0, 2 for a mistake in the input."""
KINDS = (*OF_RUNS, *OF_EACH_RUN, *OF_SWEEPS)


def main() -> None:
    """Run the command line."""
    run_command(_plot, HELP)


def _plot(arguments: Sequence[str], console: Console) -> None:
    asked = parse(arguments, {"output": "plots", "format": "png", "plots": "all"})
    formats = _chosen(asked.options["format"], FORMATS, "format")
    kinds = _chosen(asked.options["plots"], KINDS, "plots") if asked.options["plots"] != "all" else KINDS
    folder = Path(asked.options["output"])
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"output={folder} is not a folder")
    left_out: list[str] = []
    found = list(pictures_of(asked.runs, left_out))
    there = list(dict.fromkeys(kind for kind, _, _ in found))
    wanted = [(name, draw) for kind, name, draw in found if kind in kinds]
    if not wanted:
        raise UsageError(f"plots={asked.options['plots']}: of this there is {', '.join(there)}")
    missing = [kind for kind in kinds if kind not in there and asked.options["plots"] != "all"]
    left_out += [f"{kind} is left out: there is none of this" for kind in missing]
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in wanted:
        try:
            figure = draw()
        except ValueError as error:
            if len(wanted) == 1:
                raise
            left_out.append(f"{name} is left out: {one_line(error)}")
            continue
        for file_format in formats:
            path = folder / f"{name}.{file_format}"
            save(figure, path)
            console.print(str(path), soft_wrap=True, highlight=False, markup=False)
    for note in left_out:
        console.print(f"warning: {note}", style="bold yellow", soft_wrap=True, highlight=False, markup=False)


def _chosen(text: str, allowed: Sequence[str], option: str) -> list[str]:
    chosen = [one.strip() for one in text.split(",") if one.strip()]
    unknown = [one for one in chosen if one not in allowed]
    if unknown or not chosen:
        raise UsageError(f"{option}={text}: must be of {', '.join(allowed)}")
    return chosen


if __name__ == "__main__":
    main()
