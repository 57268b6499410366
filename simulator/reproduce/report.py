"""Terminal table and CSV file of the rows."""

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.console import Console

from simulator.reproduce.figures import Row
from simulator.reproduce.published import SCHEDULERS
from traces.shared.atomic_files import write_csv
from traces.shared.terminal import new_table, show

COLUMNS = ("figure", "model", "trace", "slo", "scheduler", "metric", "paper", "simulated", "difference")
# Ratio of published capacities above which one scheduler is clearly ahead of another.
SEPARATED = 1.10
SPEEDUP_WITHIN = 0.20


def write(rows: Sequence[Row], path: Path) -> None:
    """Write reproduction.csv."""
    labels = [[getattr(row, name) for name in COLUMNS[:-2]] for row in rows]
    numbers = [(f"{row.simulated:.6g}", f"{row.difference:.4f}") for row in rows]
    write_csv(path, COLUMNS, ((*words, *own) for words, own in zip(labels, numbers, strict=True)))


def read(path: Path) -> list[Row]:
    """Read a reproduction.csv."""
    with open(path, encoding="utf-8", newline="") as file:
        return [
            Row(
                row["figure"],
                row["model"],
                row["trace"],
                row["slo"],
                row["scheduler"],
                row["metric"],
                paper=float(row["paper"]),
                simulated=float(row["simulated"]),
            )
            for row in csv.DictReader(file)
        ]


def print_rows(rows: Sequence[Row], console: Console) -> None:
    """Print published value, simulated value and difference of every row.

    The verdict on the capacities follows.
    """
    table = new_table(COLUMNS, left=COLUMNS[:-3])
    for row in rows:
        labels = [getattr(row, name) for name in COLUMNS[:-3]]
        table.add_row(*labels, f"{row.paper:g}", f"{row.simulated:.3g}", f"{row.difference:+.0%}")
    show(console, table)
    for line in verdict(rows):
        console.print(line, soft_wrap=True, highlight=False)


def verdict(rows: Sequence[Row]) -> list[str]:
    """Return lines on the capacity errors in figures 10 and 11.

    Empty without such rows.
    """
    capacities = [row for row in rows if row.figure in ("10", "11") and row.metric == "capacity_qps"]
    if not capacities:
        return []
    errors = [abs(row.difference) for row in capacities]
    speedups = [row for row in rows if row.metric == "speedup_over_vllm"]
    num_within = sum(abs(row.difference) <= SPEEDUP_WITHIN for row in speedups)
    reversed_pairs = reversals(capacities)
    return [
        f"{len(errors)} capacities: median absolute difference {median(errors):.1%}, worst {max(errors):.0%}",
        f"speed-up of Sarathi over vLLM within {SPEEDUP_WITHIN:.0%} in {num_within} of {len(speedups)} cells",
        f"orderings of schedulers reversed: {', '.join(reversed_pairs) if reversed_pairs else 'none'}",
    ]


def reversals(capacities: Sequence[Row]) -> list[str]:
    """Return the scheduler pairs whose order the simulation reverses.

    Only pairs that the paper separates clearly count.
    """
    cells = {(row.model, row.trace, row.slo, row.scheduler): row for row in capacities}
    pairs = []
    for model, trace, slo in dict.fromkeys((row.model, row.trace, row.slo) for row in capacities):
        by_policy = {name: cells[model, trace, slo, name] for name in SCHEDULERS}
        for ahead, faster in by_policy.items():
            for behind, slower in by_policy.items():
                if faster.paper > SEPARATED * slower.paper and faster.simulated < slower.simulated:
                    pairs.append(f"{ahead} below {behind} ({model}, {trace}, {slo})")
    return pairs
