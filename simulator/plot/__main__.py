"""`python -m simulator.plot`: plots of finished runs, sweeps and searches."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from simulator.cli import run_command
from simulator.config import one_line
from simulator.output import UsageError, parse
from simulator.plot.pictures import OF_EACH_RUN, OF_RUNS, OF_SWEEPS, pictures_of
from traces.shared.figure_style import FORMATS, save

HELP = """\
Plots the results of the other commands.

  python -m simulator.plot RUN ... [output=FOLDER] [format=png,svg] [plots=latency,stalls,...]

  RUN            folder of a `python -m simulator` run; several runs, ideally of one trace, are plotted together
  SWEEP          folder of `python -m simulator -m` over arrival.qps, or of `python -m simulator.capacity -m`
  CAPACITY       folder of `python -m simulator.capacity`
  SEARCH         folder of `python -m simulator.search`
  NAME=RUN       the same, labelled NAME
  output=plots   folder to write the plots to
  format=png     png, svg or both
  plots=all      plots to draw, separated by commas; all: every plot available for the input
    RUN            drawn together: latency (CDFs of TTFT, TBT and end-to-end latency), stalls (output tokens over
                   time), memory (KV cache usage and queue length over time), prefixes (prefix cache hits and
                   evictions over time);
                   one file per run: batches (prompt tokens and decodes per iteration), pipeline (stages and bubbles,
                   if pp > 1), roofline (kernels of typical batches)
    SWEEP          load (latency against load, with the interval of its knee), or capacity (against the SLO) of a
                   capacity sweep
    CAPACITY       load
    SEARCH         pareto (cost against latency)

Exit status: 0, 2 for invalid input."""
KINDS = (*OF_RUNS, *OF_EACH_RUN, *OF_SWEEPS)


def main() -> None:
    """Run the command line."""
    run_command(_plot, HELP)


def _plot(arguments: Sequence[str], console: Console) -> None:
    runs, options = parse(arguments, {"output": "plots", "format": "png", "plots": "all"})
    formats = _selected(options["format"], FORMATS, "format")
    kinds = _selected(options["plots"], KINDS, "plots") if options["plots"] != "all" else KINDS
    folder = Path(options["output"])
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"output={folder} is not a folder")
    warnings: list[str] = []
    pictures = list(pictures_of(runs, warnings))
    available = list(dict.fromkeys(kind for kind, _, _ in pictures))
    wanted = [(name, draw) for kind, name, draw in pictures if kind in kinds]
    if not wanted:
        raise UsageError(f"plots={options['plots']}: not available; these inputs have {', '.join(available)}")
    missing = [kind for kind in kinds if kind not in available and options["plots"] != "all"]
    warnings += [f"{kind} is left out: these inputs do not have it" for kind in missing]
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in wanted:
        try:
            figure = draw()
        except ValueError as error:
            if len(wanted) == 1:
                raise
            warnings.append(f"{name} is left out: {one_line(error)}")
            continue
        for file_format in formats:
            path = folder / f"{name}.{file_format}"
            save(figure, path)
            console.print(str(path), soft_wrap=True, highlight=False, markup=False)
    for warning in warnings:
        console.print(f"warning: {warning}", style="bold yellow", soft_wrap=True, highlight=False, markup=False)


def _selected(text: str, allowed: Sequence[str], option: str) -> list[str]:
    values = [value.strip() for value in text.split(",") if value.strip()]
    unknown = [value for value in values if value not in allowed]
    if unknown or not values:
        raise UsageError(f"{option}={text}: must be one or more of {', '.join(allowed)}")
    return values


if __name__ == "__main__":
    main()
