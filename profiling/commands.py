"""Commands on tables: fit, evaluate, ratios, compare, links, host, launch."""

import functools
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import click
import pandas as pd

from profiling import options
from profiling.fit.step_bar import step_bar
from profiling.options import PATH
from profiling.tables import Header, device_folders, print_table
from traces.shared.atomic_files import write_atomic

_TABLES = "TABLES: folder of a device, or a folder of device folders."


@click.command("fit", help=f"Fit measurements, one profile per device. {_TABLES}")
@options.tables
@options.attention_from
@options.output("Folder for DEVICE.json.gz.")
@click.option("--name", help="Name of the file.  [default: the device]")
@click.option(
    "--elementwise-from",
    type=PATH,
    multiple=True,
    metavar="FOLDER",
    help="Tables of other devices whose norms, rope, activation and sampling are scaled by the bandwidth.",
)
def fit(
    tables: Path, attention_from: str | None, output: Path, name: str | None, elementwise_from: tuple[Path, ...]
) -> None:
    """Fit measurements."""
    from profiling.evaluate.beyond import TIMES, beyond_scores
    from profiling.evaluate.held_out import device_scores
    from profiling.fit.attention import AttentionSource
    from profiling.fit.in_engine_factors import with_in_engine
    from profiling.fit.kernels import fit_device, num_steps

    attention = _attention_from(tables, attention_from)
    others = [folder for path in elementwise_from for folder in device_folders(path)]
    folders = device_folders(tables)
    if name is not None and len(folders) > 1:
        raise ValueError(f"--name is for one device; {tables} has {len(folders)}")
    for folder in folders:
        AttentionSource.of(folder, attention)  # raises before anything is written
    with step_bar(sum(map(num_steps, folders)) + len(folders)) as step:
        for folder in folders:
            device = Header.read(folder).device
            named = functools.partial(_named_step, step, device)
            profile = with_in_engine(fit_device(folder, attention, others, named), folder)
            named("held-out rows")
            scores = [score for score in device_scores(folder, attention, baseline=False) if score.tokens == "all"]
            beyond = {
                score.operator: {"times": TIMES, "median": score.median, "p95": score.p95}
                for score in beyond_scores(folder, attention)
            }
            errors = [asdict(score) for score in scores]
            profile = replace(profile, about={**profile.about, "errors": errors, "beyond": beyond})
            path = output / f"{device if name is None else name}.json.gz"
            content = profile.to_bytes()
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, content)
            print(f"{path}: {len(content):,} bytes")


def _named_step(step: Callable[[str], None], device: str, name: str) -> None:
    step(f"{device}: {name}")


@click.command("evaluate", help=f"Errors of the fits on held-out rows. {_TABLES}")
@options.tables
@options.attention_from
@click.option("--output", type=PATH, default="evaluation.json", show_default=True)
def evaluate(tables: Path, attention_from: str | None, output: Path) -> None:
    """Evaluate the fits."""
    from profiling.evaluate.held_out import device_scores
    from profiling.evaluate.scores import Score

    attention = _attention_from(tables, attention_from)
    scores: list[Score] = []
    for folder in device_folders(tables):
        scores += device_scores(folder, attention)
        print(f"{folder} evaluated", file=sys.stderr)
    rows = [asdict(score) for score in scores]
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(output, (json.dumps(rows, indent=1) + "\n").encode())
    print_table(pd.DataFrame(rows), "absolute error, per cent")
    print(f"written to {output}")


@click.command(
    "ratios",
    help="Compare two sources of measurements of a device. TABLES, OTHER: its folders; OTHER is the denominator.",
)
@options.tables
@click.argument("other", type=PATH)
def ratios(tables: Path, other: Path) -> None:
    """Divide the times of one source by those of another."""
    from profiling.evaluate import source_ratios

    rows = source_ratios.ratios(tables, other)
    print_table(rows.round(2), f"times of {tables} divided by times of {other}: median, P5, P95")


@click.command(
    "compare",
    help="Compare predicted with published iterations. DATA: has splitwise/, sarathi_serve/ and published/.",
)
@click.argument("data", type=PATH)
@click.option("--figures", type=PATH, help="Folder for figures.  [default: none]")
@click.option("--cases", is_flag=True, help="Print every case.")
def compare(data: Path, figures: Path | None, cases: bool) -> None:
    """Compare predictions with published iterations."""
    from profiling.evaluate import published_iterations

    table = pd.DataFrame([asdict(case) for case in published_iterations.cases(data)])
    if cases:
        error = (table["predicted_s"] / table["measured_s"] - 1) * 100
        shown = pd.DataFrame({"dataset": table["dataset"], "case": table["case"]})
        for name in ("measured", "predicted"):
            shown[f"{name}, ms"] = (table[f"{name}_s"] * 1e3).map("{:.1f}".format)
        print_table(shown.assign(error=error.map("{:+.1f} %".format)), "whole iterations")
    print_table(published_iterations.summary(table).round(1), "error of whole iterations, per cent")
    if figures is not None:
        from profiling.evaluate.figures import draw_composition, draw_stairs

        figures.mkdir(parents=True, exist_ok=True)
        draw_composition(table, figures / "composition.png")
        draw_stairs(figures / "stairs.png")
        print(f"figures written to {figures}")


@click.command("links", help=f"Fit link curves of collectives and messages. One file per machine. {_TABLES}")
@options.tables
@options.output("Folder for MACHINE.json.")
@click.option("--figure", type=PATH, help="Figure of the measurements and fitted curves.  [default: none]")
def links(tables: Path, output: Path, figure: Path | None) -> None:
    """Fit link curves."""
    from profiling.fit.links import constants, fit_links

    folders = [folder for folder in device_folders(tables) if (folder / "communication.csv.gz").exists()]
    if not folders:
        raise ValueError(f"no folder in {tables} has a communication table")
    for fitted in [fitted for folder in folders for fitted in fit_links(folder)]:
        path = output / f"{fitted.about['machine']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, fitted.to_text().encode())
        print(f"{path}: {len(fitted.curves)} curves")
    print_table(pd.concat(constants(folder) for folder in folders).round(1), "latency and bandwidth, for comparison")
    if figure is not None:
        from profiling.evaluate.figures import draw_messages

        figure.parent.mkdir(parents=True, exist_ok=True)
        draw_messages(folders, figure)
        print(f"figure written to {figure}")


@click.command("host", help=f"Fit the host overhead of an engine. {_TABLES}")
@options.tables
def host(tables: Path) -> None:
    """Fit the host overhead."""
    from profiling.fit.host_overhead import FITTED, host_lines

    folders = [folder for folder in device_folders(tables) if (folder / "host.csv.gz").exists()]
    if not folders:
        raise ValueError(f"no folder in {tables} has a host table")
    rows = pd.concat(host_lines(folder) for folder in folders)
    for name in FITTED:
        rows[name] = rows[name].map("{:.3g}".format)
    print_table(rows.round(1), "host time of an iteration")


@click.command("launch", help="Fit launches of a layer to launch-bound decodes. DATA: has splitwise/.")
@click.argument("data", type=PATH)
def launch(data: Path) -> None:
    """Fit the launch time of a layer."""
    from profiling.fit.kernel_launches import launch_times

    rows = launch_times(data / "splitwise" / "perf_model.csv")
    rows["launch_per_layer_s"] = rows["launch_per_layer_s"].map("{:.3g}".format)
    print_table(rows.round(1), "launch time of a layer; error on held-out decodes, per cent")


def _attention_from(tables: Path, device: str | None) -> Path | None:
    if device is None:
        return None
    by_name = {Header.read(folder).device: folder for folder in device_folders(tables)}
    if device not in by_name:
        raise ValueError(f"--attention-from must be a device in {tables}, one of {', '.join(by_name)}; got {device}")
    return by_name[device]
