"""Tables of measurements: one tidy CSV for each device and operator family, and a header that says where from.

A folder of a device holds `<family>.csv.gz` and `header.json`. docs/profiling.md describes every column.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype
from rich.console import Console
from rich.table import Table

MEASURES = ("seconds", "seconds_min", "seconds_std", "library")
# Columns that say what was measured; a row of a family has one value for each.
FAMILIES: dict[str, tuple[str, ...]] = {
    "matmul": ("model", "tp", "operator", "k", "n", "num_tokens"),
    "elementwise": ("model", "tp", "operator", "width", "num_tokens"),
    "attention": ("model", "tp", "operator", "q_heads", "kv_heads", "head_dim", "num_tokens", "batch", "context"),
    "communication": ("machine", "operator", "num_gpus", "gpus_per_node", "num_bytes"),
    "host": ("model", "tp", "operator", "batch"),
    "iteration": (
        "model",
        "tp",
        "operator",
        "num_prefill_tokens",
        "prefill_context",
        "num_decodes",
        "decode_context",
    ),
}
_TEXT = ("device", "model", "operator", "machine", "library")
HEADER = "header.json"


class TableError(ValueError):
    """A table that cannot be used; its message is one line."""


@dataclass(frozen=True)
class Header:
    """What a folder of tables is about.

    Attributes:
        device: Name of the device, as in configs/device where there is one.
        source: Who measured, and where it is published.
        licence: Licence of the measurements.
        date: When they were made or published, ISO 8601 as far as it is known.
        engine_generation: Kernels and engine that were measured: their age decides more than any fit.
        num_sms: Streaming multiprocessors.
        peak_tflops: Dense half-precision matrix rate, 10^12 FLOP/s, data sheet.
        bandwidth_gb_per_s: HBM bandwidth, 10^9 byte/s, data sheet.
        environment: Clocks, driver and versions, as far as they are known.
    """

    device: str
    source: str
    licence: str
    date: str
    engine_generation: str
    num_sms: int
    peak_tflops: float
    bandwidth_gb_per_s: float
    environment: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write to a folder."""
        write_whole(folder / HEADER, (json.dumps(asdict(self), indent=1) + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> "Header":
        """Read from a folder.

        Raises:
            TableError: There is none, or it is not one.
        """
        path = folder / HEADER
        try:
            return cls(**json.loads(path.read_text()))
        except OSError as error:
            raise TableError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, TypeError) as error:
            raise TableError(f"{path} is not the header of a folder of tables: {error}") from error


def columns_of(family: str) -> list[str]:
    """All columns of a family, in their order."""
    return ["device", *FAMILIES[family], *MEASURES]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_gzipped(path: Path, rows: pd.DataFrame, float_format: str) -> None:
    """Write a gzipped CSV file, whole or not at all; the same rows give the same bytes.

    Args:
        path: Its name.
        rows: The rows.
        float_format: Format of numbers that are not whole, such as "%.6g".
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        rows.to_csv(beside, index=False, float_format=float_format, compression={"method": "gzip", "mtime": 0})
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_table(folder: Path, family: str, rows: pd.DataFrame) -> None:
    """Write a family's table, sorted by what was measured; the same rows give the same bytes."""
    ordered = rows[columns_of(family)].sort_values(list(FAMILIES[family]), kind="stable")
    write_gzipped(folder / f"{family}.csv.gz", ordered, "%.6g")


def read_table(folder: Path, family: str) -> pd.DataFrame:
    """Read a family's table; an empty one where the folder has none.

    Raises:
        TableError: The file is not such a table; the message names file and column or row.
    """
    path = folder / f"{family}.csv.gz"
    if not path.exists():
        return pd.DataFrame(columns=columns_of(family))
    try:
        table = pd.read_csv(path)
    except (OSError, EOFError, ValueError) as error:
        raise TableError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    missing = [name for name in columns_of(family) if name not in table]
    if missing:
        raise TableError(f"{path} has no column {missing[0]}; its columns must be {', '.join(columns_of(family))}")
    for name in columns_of(family):
        if name not in _TEXT and not pd.api.types.is_numeric_dtype(table[name]):
            raise TableError(f"{path}: column {name} must hold numbers")
    wrong = table.index[~(table["seconds"] > 0) | ~(table["seconds"] < 1e6)]
    if len(wrong):
        raise TableError(f"{path}, line {wrong[0] + 2}: seconds must be above 0, got {table['seconds'][wrong[0]]}")
    return table


def device_folders(folder: Path) -> list[Path]:
    """Return the folders of devices in a folder, or the folder itself if it is one.

    Raises:
        TableError: There is none.
    """
    found = [folder] if (folder / HEADER).exists() else sorted(path.parent for path in folder.glob(f"*/{HEADER}"))
    if not found:
        raise TableError(f"{folder} holds no tables: no {HEADER} in it or in a folder of it")
    return found


def medians(table: pd.DataFrame, keys: Iterable[str]) -> pd.DataFrame:
    """One row for each combination of keys: the median of its repeated measurements."""
    return table.groupby(list(keys))["seconds"].median().reset_index()


def read_columns(path: Path, *columns: str) -> pd.DataFrame:
    """Read a CSV file that has these columns.

    Raises:
        TableError: It cannot be read or has not.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise TableError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    missing = [name for name in columns if name not in table]
    if missing:
        raise TableError(f"{path} has no column {missing[0]}")
    return table


def print_table(rows: pd.DataFrame, title: str) -> None:
    """Print rows; numbers are aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="dim")
    for name in rows.columns:
        table.add_column(str(name), justify="right" if is_numeric_dtype(rows[name]) else "left", no_wrap=True)
    for row in rows.itertuples(index=False):
        table.add_row(*(str(value) for value in row))
    console = Console()
    # A table that is cut to the width of a pipe would lose figures.
    Console(width=max(console.width, 160)).print(table) if not console.is_terminal else console.print(table)
