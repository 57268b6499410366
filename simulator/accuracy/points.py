"""Measured points, and how each is simulated."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


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
