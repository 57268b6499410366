"""Measured points, and how each is simulated."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any


class SetError(ValueError):
    """Measurements that cannot be read; the message is one line."""


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
        SetError: It is missing or no number above 0.
    """
    value = row.get(name)
    try:
        converted = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise SetError(f"{where}: {name} must be a number, got {value!r}") from None
    if not 0 < converted < inf:
        raise SetError(f"{where}: {name} must be above 0 and finite, got {value!r}")
    return converted


def read_rows(path: Path, *columns: str) -> list[dict[str, str]]:
    """Read a CSV file that must have these columns.

    Raises:
        SetError: The file cannot be read, or a column is missing.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise SetError(f"{path} has no column {missing[0]}")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SetError(f"cannot read {path}: {error}") from error
