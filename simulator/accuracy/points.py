"""Measured points, and how each is simulated."""

import csv
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traces.shared import value_checks as checks
from traces.shared.json_file import reading


@dataclass(frozen=True)
class Point:
    """One measured run of a serving engine.

    Attributes:
        dataset: Set that it is from.
        model: Model and number format of the weights.
        device: GPU.
        layout: Tensor-parallel degree, such as "TP4".
        engine: Engine and version, as the set states them.
        load: Load, such as "64 users, 1024 + 128 tokens".
        overrides: Configuration of the simulation.
        measured: Measured seconds by metric and statistic, such as "tpot_s.mean".
    """

    dataset: str
    model: str
    device: str
    layout: str
    engine: str
    load: str
    overrides: Sequence[str]
    measured: Mapping[str, float]

    @property
    def labels(self) -> tuple[str, ...]:
        """What was measured: set, model, device, layout, engine and load."""
        return (self.dataset, self.model, self.device, self.layout, self.engine, self.load)


@dataclass(frozen=True)
class Skipped:
    """Rows without a model, device or engine in the simulator.

    Attributes:
        reason: What is missing.
        num_rows: Number of rows.
    """

    reason: str
    num_rows: int


def number(row: Mapping[str, Any], name: str, where: str) -> float:
    """Return a number of a row.

    Args:
        row: Values by column or key.
        name: Column or key.
        where: The file, and the row if it has several, for the message.

    Raises:
        ValueError: It is missing or no number above 0.
    """
    value: Any = row.get(name)
    with suppress(TypeError, ValueError):
        value = float(value)
    checks.number(f"{where}: {name}", value, 0, excluding="low")
    return float(value)


def read_rows(path: Path, *columns: str) -> list[dict[str, str]]:
    """Read a CSV file that must have these columns.

    Raises:
        ValueError: The file cannot be read, or a column is missing.
    """
    with reading(path, "a CSV file of this set"), path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        for name in columns:
            if name not in (reader.fieldnames or ()):
                raise ValueError(f"it has no column {name}")
        return list(reader)
