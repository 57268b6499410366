"""Measurements of one device from two sources, case by case."""

from pathlib import Path

import pandas as pd

from profiling.tables import Header, TableError, medians, read_table

# What makes two rows the same case; a matrix product is the same whatever operator it serves.
SAME = {
    "matmul": ("k", "n", "num_tokens"),
    "elementwise": ("operator", "width", "tp", "num_tokens"),
    "attention": ("operator", "q_heads", "kv_heads", "head_dim", "num_tokens", "batch", "context"),
}
# Percentiles that say how far ratios spread.
SPREAD = (0.05, 0.95)


def ratios(folder: Path, other: Path) -> pd.DataFrame:
    """Divide the times of one folder by those of another.

    Returns:
        By operator: ratio (median), p5, p95, num_cases; columns family and operator.

    Raises:
        TableError: The folders are of different devices, or have no case in common.
    """
    device, other_device = Header.read(folder).device, Header.read(other).device
    if device != other_device:
        raise TableError(f"{folder} is of {device}, {other} of {other_device}: only one device can be compared")
    found = [rows for family, keys in SAME.items() if len(rows := _of_family(folder, other, family, list(keys)))]
    if not found:
        raise TableError(f"{folder} and {other} have no case in common")
    return pd.concat(found, ignore_index=True)


def _rounded(rows: pd.DataFrame) -> pd.DataFrame:
    """Take contexts of a token more or less for the same: some count the token that is computed, others do not."""
    return rows.assign(context=(rows["context"] + 1) // 2 * 2) if "context" in rows else rows


def _of_family(folder: Path, other: Path, family: str, keys: list[str]) -> pd.DataFrame:
    names = list(dict.fromkeys(["operator", *keys]))
    own = medians(_rounded(read_table(folder, family)), names)
    theirs = medians(_rounded(read_table(other, family)), keys)
    both = own.merge(theirs, on=keys, suffixes=("", "_other"))
    if not len(both):
        return both
    both["ratio"] = both["seconds"] / both["seconds_other"]
    grouped = both.groupby("operator")["ratio"]
    low, high = (grouped.quantile(share) for share in SPREAD)
    columns = {"ratio": grouped.median(), "p5": low, "p95": high, "num_cases": grouped.size()}
    return pd.DataFrame(columns).reset_index().assign(family=family)[["family", "operator", *columns]]
