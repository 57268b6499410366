"""Table of errors, and a CSV file of all points."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from simulator.accuracy.points import Skipped
from simulator.accuracy.predictions import Comparison
from traces.shared.atomic_files import write_csv
from traces.shared.terminal import new_table, note, show

COLUMNS = ("dataset", "model", "device", "layout", "engine", "load", "metric", "measured_ms", "predicted_ms", "error")


def write_points(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write one row per point and metric."""
    write_csv(path, (*COLUMNS, "overloaded"), (row for comparison in comparisons for row in _rows(comparison)))


def _rows(comparison: Comparison) -> Iterator[tuple[object, ...]]:
    point = comparison.point
    for metric, measured_s in point.measured.items():
        times = (f"{seconds * 1e3:.5g}" for seconds in (measured_s, comparison.predicted[metric]))
        yield (*point.labels, metric, *times, f"{comparison.error(metric):.4f}", int(comparison.overloaded))


def print_report(comparisons: Sequence[Comparison], skipped: Sequence[Skipped], console: Console) -> None:
    """Print the errors by model, device, layout, engine and metric."""
    labels = ["set", "model", "device", "layout", "engine", "metric"]
    columns = [*labels, "points", "median", "P90", "bias", "overloaded"]
    table = new_table(columns, "predicted against measured; errors in percent", left=labels)
    groups: dict[tuple[str, ...], list[Comparison]] = {}
    for comparison in comparisons:
        for metric in comparison.point.measured:
            groups.setdefault((*comparison.point.labels[:-1], metric), []).append(comparison)
    for group, inside in groups.items():
        table.add_row(*group, *_figures(inside, group[-1]))
    show(console, table)
    for part in skipped:
        note(console, f"left out: {part.num_rows:,} rows, {part.reason}")


def _figures(comparisons: Sequence[Comparison], metric: str) -> tuple[str, ...]:
    errors = 100 * np.array([comparison.error(metric) for comparison in comparisons])
    absolute = np.abs(errors)
    return (
        str(len(errors)),
        f"{np.median(absolute):.1f}",
        f"{np.percentile(absolute, 90):.1f}",
        f"{np.median(errors):+.1f}",
        str(sum(comparison.overloaded for comparison in comparisons)),
    )
