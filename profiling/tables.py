"""Tables of measurements: one tidy CSV per device and operator family.

The folder of a device has `<family>.csv.gz` and `header.json`, which states their source. docs/profiling.md describes
every column.
"""

import gzip
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype
from rich.console import Console

from traces.shared.atomic_files import write_atomic
from traces.shared.json_file import reading
from traces.shared.terminal import new_table, show

MEASURES = ("seconds", "seconds_min", "seconds_std", "library")
POWER = "power_w"  # measured by some sources only
_ATTENTION_SHAPE = ("q_heads", "kv_heads", "head_dim", "kv_dtype", "window")
# Key columns of each family: what was measured.
FAMILIES: dict[str, tuple[str, ...]] = {
    "matmul": ("model", "tp", "operator", "dtype", "k", "n", "num_tokens"),
    "elementwise": ("model", "tp", "operator", "width", "num_tokens"),
    "attention": ("model", "tp", "operator", *_ATTENTION_SHAPE, "num_tokens", "batch", "context"),
    "mixed_attention": ("model", "tp", *_ATTENTION_SHAPE, "num_tokens", "context", "num_decodes", "decode_context"),
    "experts": (
        "model",
        "tp",
        "ep",
        "dtype",
        "hidden_size",
        "ffn_size",
        "num_experts",
        "experts_per_token",
        "routing",
        "num_tokens",
    ),
    "latent_attention": ("model", "tp", "operator", "q_heads", "dtype", "kv_dtype", "num_tokens", "batch", "context"),
    "expert_messages": (
        "machine",
        "operator",
        "num_gpus",
        "num_nodes",
        "hidden_size",
        "num_experts",
        "experts_per_token",
        "num_tokens",
    ),
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
_TEXT = ("device", "model", "operator", "machine", "library", "dtype", "kv_dtype", "routing")
# Values of columns that older tables lack.
_DEFAULTS: dict[str, Any] = {"dtype": "bf16", "kv_dtype": "fp16", "window": 0}
HEADER = "header.json"
# environment["timing"] of a header whose times are of kernels alone, without the gaps between them.
KERNEL_DURATION = "kernel duration"


@dataclass(frozen=True)
class Header:
    """Device and source of a folder of tables.

    Attributes:
        device: Name of the device, as in configs/device if it is there.
        source: Who made the measurements, and where they are published.
        licence: Licence of the measurements.
        date: When they were made or published, ISO 8601, possibly the year alone.
        engine_generation: Kernels and engine that were measured; their age matters more than the fit.
        kernels: Short name of that generation, a key of `Device.profiles`.
        num_sms: Streaming multiprocessors.
        peak_tflops: Dense half-precision matrix rate, 10^12 FLOP/s, data sheet.
        bandwidth_gb_per_s: HBM bandwidth, 10^9 byte/s, data sheet.
        format_tflops: Dense matrix rate of the formats that the device multiplies faster than half precision.
        l2_mb: L2 cache, 10^6 byte; None: unknown.
        also_of: Other devices whose kernels the source does not tell apart.
        environment: Clocks, driver and versions, where known.
    """

    device: str
    source: str
    licence: str
    date: str
    engine_generation: str
    num_sms: int
    peak_tflops: float
    bandwidth_gb_per_s: float
    kernels: str = "torch"
    format_tflops: dict[str, float] = field(default_factory=dict)
    l2_mb: float | None = None
    also_of: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the header into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / HEADER, (json.dumps(asdict(self), indent=1) + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> "Header":
        """Read the header of a folder.

        Raises:
            ValueError: The file is missing or is not a header.
        """
        path = folder / HEADER
        with reading(path, "the header of a folder of tables"):
            return cls(**json.loads(path.read_text()))


def columns_of(family: str) -> list[str]:
    """Return all columns of a family, in order."""
    return ["device", *FAMILIES[family], *MEASURES]


def complete(rows: pd.DataFrame, family: str) -> pd.DataFrame:
    """Return the columns of a family, completed by defaults."""
    absent = {name: value for name, value in _DEFAULTS.items() if name not in rows}
    measured = [POWER] if POWER in rows else []
    return rows.assign(**absent)[[*columns_of(family), *measured]]


def write_gzipped(path: Path, rows: pd.DataFrame, float_format: str) -> None:
    """Write a gzipped CSV file atomically; equal rows give equal bytes.

    Args:
        path: The file.
        rows: The rows.
        float_format: Format of floats, such as "%.6g".
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = rows.to_csv(index=False, float_format=float_format)
    write_atomic(path, gzip.compress(text.encode(), mtime=0))


def write_table(folder: Path, family: str, rows: pd.DataFrame) -> None:
    """Write a family's table, sorted by its key columns.

    Equal rows give equal bytes.
    """
    ordered = complete(rows, family).sort_values(list(FAMILIES[family]), kind="stable")
    write_gzipped(folder / f"{family}.csv.gz", ordered, "%.6g")


def read_table(folder: Path, family: str) -> pd.DataFrame:
    """Read a family's table; an empty one if the folder has none.

    Raises:
        ValueError: The file is not a table of the family; the message names the file and the column or line.
    """
    path = folder / f"{family}.csv.gz"
    if not path.exists():
        return pd.DataFrame(columns=columns_of(family))
    table = read_columns(path)
    older = {name: value for name, value in _DEFAULTS.items() if name in FAMILIES[family] and name not in table}
    table = table.assign(**older)
    missing = [name for name in columns_of(family) if name not in table]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]}; its columns must be {', '.join(columns_of(family))}")
    for name in columns_of(family):
        if name not in _TEXT and not pd.api.types.is_numeric_dtype(table[name]):
            raise ValueError(f"{path}: column {name} must hold numbers")
    invalid = table.index[~(table["seconds"] > 0) | ~(table["seconds"] < 1e6)]
    if len(invalid):
        raise ValueError(f"{path}, line {invalid[0] + 2}: seconds must be above 0, got {table['seconds'][invalid[0]]}")
    return table


def device_folders(folder: Path) -> list[Path]:
    """Return the device folders in a folder.

    A folder that is itself a device folder is returned alone.

    Raises:
        ValueError: The folder has no tables.
    """
    folders = [folder] if (folder / HEADER).exists() else sorted(path.parent for path in folder.glob(f"*/{HEADER}"))
    if not folders:
        raise ValueError(f"{folder} has no tables: no {HEADER} in it or in its subfolders")
    return folders


def medians(table: pd.DataFrame, keys: Iterable[str]) -> pd.DataFrame:
    """Return the median of repeated measurements: one row per combination of keys."""
    return table.groupby(list(keys))["seconds"].median().reset_index()


def read_columns(path: Path, *columns: str) -> pd.DataFrame:
    """Read a CSV file that must have these columns.

    Raises:
        ValueError: The file cannot be read, or a column is missing.
    """
    with reading(path, "a CSV file"):
        table = pd.read_csv(path)
    missing = [name for name in columns if name not in table]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]}")
    return table


def print_table(rows: pd.DataFrame, title: str) -> None:
    """Print rows as a table, numbers right-aligned."""
    texts = [str(name) for name in rows.columns if not is_numeric_dtype(rows[name])]
    table = new_table(map(str, rows.columns), title, left=texts)
    for row in rows.itertuples(index=False):
        table.add_row(*(str(value) for value in row))
    show(Console(), table)
