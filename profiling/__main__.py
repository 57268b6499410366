"""`python -m profiling`: measure operators, record an engine, fit and evaluate profiles."""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NoReturn

import pandas as pd

from profiling import campaign
from profiling.fit.step_bar import step_bar
from profiling.front_end import command as front_end
from profiling.importers import command as importers
from profiling.measure import command as measure
from profiling.serving import command as record
from profiling.tables import Header, TableError, device_folders, print_table
from profiling.validate import command as validate
from traces.shared import command_line
from traces.shared.atomic_files import write_atomic


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    command_line.run(_run, list(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "sklearn":
            raise
        raise TableError("fitting needs scikit-learn: pip install 'llm-serving-simulator[fit]'") from error


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m profiling", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("measure", help="measure the operators of a model on this machine's GPU")
    measure.add_arguments(command)
    command = commands.add_parser("record", help="serve a trace in real time on this machine's GPU")
    record.add_arguments(command)
    command = commands.add_parser("validate", help="compare recordings with predictions")
    validate.add_arguments(command)
    command = commands.add_parser("campaign", help="measure a GPU, record on it and validate, in one command")
    campaign.add_arguments(command)
    command = commands.add_parser("front-end", help="measure the CPU time and latencies of vLLM's API server")
    front_end.add_arguments(command)

    command = commands.add_parser("import", help="convert published measurements into tables")
    importers.add_arguments(command)

    command = commands.add_parser("fit", help="fit measurements, one profile per device")
    _add_tables(command)
    command.add_argument("--output", type=Path, required=True, help="folder for DEVICE.json.gz")
    command.add_argument("--name", help="name of the file; default: the device")
    command.add_argument(
        "--elementwise-from",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="tables of other devices whose norms, rope, activation and sampling are scaled by the bandwidth",
    )
    command.set_defaults(run=_fit)

    command = commands.add_parser("evaluate", help="errors of the fits on held-out rows")
    _add_tables(command)
    command.add_argument("--output", type=Path, default=Path("evaluation.json"), help="default: evaluation.json")
    command.set_defaults(run=_evaluate)

    command = commands.add_parser("ratios", help="compare measurements of one device from two sources")
    command.add_argument("tables", type=Path, help="folder of the device")
    command.add_argument("other", type=Path, help="the denominator: another folder of the same device")
    command.set_defaults(run=_ratios)

    command = commands.add_parser("compare", help="compare predicted iterations with published measurements")
    command.add_argument("data", type=Path, help="folder with splitwise/, sarathi_serve/ and published/")
    command.add_argument("--figures", type=Path, help="folder for figures; default: none")
    command.add_argument("--cases", action="store_true", help="print every case")
    command.set_defaults(run=_compare)

    command = commands.add_parser("links", help="fit link curves of collectives and messages, one file per machine")
    command.add_argument("tables", type=Path, help="folder of a device, or a folder of device folders")
    command.add_argument("--output", type=Path, required=True, help="folder for MACHINE.json")
    command.add_argument("--figure", type=Path, help="figure of the measurements and fitted curves; default: none")
    command.set_defaults(run=_links)

    command = commands.add_parser("host", help="fit the host overhead of an engine by straight lines")
    _add_tables(command)
    command.set_defaults(run=_host)

    command = commands.add_parser("launch", help="fit the launch time of a layer to launch-bound decodes")
    command.add_argument("data", type=Path, help="folder with splitwise/")
    command.set_defaults(run=_launch)
    return parser


def _add_tables(command: argparse.ArgumentParser) -> None:
    command.add_argument("tables", type=Path, help="folder of a device, or a folder of device folders")
    command.add_argument(
        "--attention-from",
        metavar="DEVICE",
        help="device in the tables whose attention fit is transferred to devices with too few attention rows",
    )


def _fit(options: argparse.Namespace) -> None:
    from profiling.evaluate.beyond import TIMES, beyond_scores
    from profiling.evaluate.held_out import device_scores
    from profiling.fit.attention import AttentionSource
    from profiling.fit.in_engine_factors import with_in_engine
    from profiling.fit.kernels import fit_device, num_steps

    attention_from = _attention_from(options)
    elementwise_from = [folder for path in options.elementwise_from for folder in device_folders(path)]
    folders = device_folders(options.tables)
    if options.name is not None and len(folders) > 1:
        raise TableError(f"--name is for one device; {options.tables} has {len(folders)}")
    for folder in folders:
        AttentionSource.of(folder, attention_from)  # raises before anything is written
    with step_bar(sum(map(num_steps, folders)) + len(folders)) as step:
        for folder in folders:
            device = Header.read(folder).device
            named = functools.partial(_named_step, step, device)
            profile = with_in_engine(fit_device(folder, attention_from, elementwise_from, named), folder)
            named("held-out rows")
            scores = [score for score in device_scores(folder, attention_from, baseline=False) if score.tokens == "all"]
            beyond = {
                score.operator: {"times": TIMES, "median": score.median, "p95": score.p95}
                for score in beyond_scores(folder, attention_from)
            }
            errors = [asdict(score) for score in scores]
            profile = replace(profile, about={**profile.about, "errors": errors, "beyond": beyond})
            name = device if options.name is None else options.name
            path = options.output / f"{name}.json.gz"
            content = profile.to_bytes()
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, content)
            print(f"{path}: {len(content):,} bytes")


def _named_step(step: Callable[[str], None], device: str, name: str) -> None:
    step(f"{device}: {name}")


def _evaluate(options: argparse.Namespace) -> None:
    from profiling.evaluate.held_out import device_scores
    from profiling.evaluate.scores import Score

    attention_from = _attention_from(options)
    scores: list[Score] = []
    for folder in device_folders(options.tables):
        scores += device_scores(folder, attention_from)
        print(f"{folder} evaluated", file=sys.stderr)
    rows = [asdict(score) for score in scores]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(options.output, (json.dumps(rows, indent=1) + "\n").encode())
    print_table(pd.DataFrame(rows), "absolute error, per cent")
    print(f"written to {options.output}")


def _ratios(options: argparse.Namespace) -> None:
    from profiling.evaluate.source_ratios import ratios

    rows = ratios(options.tables, options.other)
    print_table(rows.round(2), f"times of {options.tables} divided by times of {options.other}: median, P5, P95")


def _compare(options: argparse.Namespace) -> None:
    from profiling.evaluate import published_iterations

    cases = pd.DataFrame([asdict(case) for case in published_iterations.cases(options.data)])
    if options.cases:
        error = (cases["predicted_s"] / cases["measured_s"] - 1) * 100
        shown = pd.DataFrame({"dataset": cases["dataset"], "case": cases["case"]})
        for name in ("measured", "predicted"):
            shown[f"{name}, ms"] = (cases[f"{name}_s"] * 1e3).map("{:.1f}".format)
        print_table(shown.assign(error=error.map("{:+.1f} %".format)), "whole iterations")
    print_table(published_iterations.summary(cases).round(1), "error of whole iterations, per cent")
    if options.figures is not None:
        from profiling.evaluate import figures

        options.figures.mkdir(parents=True, exist_ok=True)
        figures.draw_composition(cases, options.figures / "composition.png")
        figures.draw_stairs(options.figures / "stairs.png")
        print(f"figures written to {options.figures}")


def _links(options: argparse.Namespace) -> None:
    from profiling.fit.links import constants, fit_links

    folders = [folder for folder in device_folders(options.tables) if (folder / "communication.csv.gz").exists()]
    if not folders:
        raise TableError(f"no folder in {options.tables} has a communication table")
    for links in [links for folder in folders for links in fit_links(folder)]:
        path = options.output / f"{links.about['machine']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, links.to_text().encode())
        print(f"{path}: {len(links.curves)} curves")
    print_table(pd.concat(constants(folder) for folder in folders).round(1), "latency and bandwidth, for comparison")
    if options.figure is not None:
        from profiling.evaluate.figures import draw_messages

        options.figure.parent.mkdir(parents=True, exist_ok=True)
        draw_messages(folders, options.figure)
        print(f"figure written to {options.figure}")


def _host(options: argparse.Namespace) -> None:
    from profiling.fit.host_overhead import FITTED, host_lines

    folders = [folder for folder in device_folders(options.tables) if (folder / "host.csv.gz").exists()]
    if not folders:
        raise TableError(f"no folder in {options.tables} has a host table")
    rows = pd.concat(host_lines(folder) for folder in folders)
    for name in FITTED:
        rows[name] = rows[name].map("{:.3g}".format)
    print_table(rows.round(1), "host time of an iteration")


def _launch(options: argparse.Namespace) -> None:
    from profiling.fit.kernel_launches import launch_times

    rows = launch_times(options.data / "splitwise" / "perf_model.csv")
    rows["launch_per_layer_s"] = rows["launch_per_layer_s"].map("{:.3g}".format)
    print_table(rows.round(1), "launch time of a layer; error on held-out decodes, per cent")


def _attention_from(options: argparse.Namespace) -> Path | None:
    if options.attention_from is None:
        return None
    by_name = {Header.read(folder).device: folder for folder in device_folders(options.tables)}
    if options.attention_from not in by_name:
        raise TableError(
            f"--attention-from must be a device in {options.tables}, one of {', '.join(by_name)}; "
            f"got {options.attention_from}"
        )
    return by_name[options.attention_from]


if __name__ == "__main__":
    main()
