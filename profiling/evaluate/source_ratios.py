"""Ratios of two sources' measurements of one device, case by case."""

from pathlib import Path

import pandas as pd

from profiling.tables import Header, medians, read_table

# Key columns of a case; a GEMM is the same case in any operator.
SAME = {
    "matmul": ("dtype", "k", "n", "num_tokens"),
    "elementwise": ("operator", "width", "tp", "num_tokens"),
    "attention": (
        "operator",
        "q_heads",
        "kv_heads",
        "head_dim",
        "kv_dtype",
        "window",
        "num_tokens",
        "batch",
        "context",
    ),
}
# Quantiles of the spread of ratios.
SPREAD = (0.05, 0.95)


def ratios(folder: Path, reference: Path) -> pd.DataFrame:
    """Divide the times of one folder by those of a reference folder.

    Returns:
        Columns family, operator, ratio (median), p5, p95 and num_cases; one row per operator.

    Raises:
        ValueError: The folders are of different devices, or have no case in common.
    """
    device, reference_device = Header.read(folder).device, Header.read(reference).device
    if device != reference_device:
        raise ValueError(f"{folder} is of {device}, {reference} of {reference_device}: only one device can be compared")
    parts = [
        rows for family, keys in SAME.items() if len(rows := _family_ratios(folder, reference, family, list(keys)))
    ]
    if not parts:
        raise ValueError(f"{folder} and {reference} have no case in common")
    return pd.concat(parts, ignore_index=True)


def _comparable(rows: pd.DataFrame) -> pd.DataFrame:
    """Merge contexts that differ by one token, and both half-precision formats.

    Some sources count the new token, others do not.
    """
    if "context" not in rows:
        return rows
    context = (rows["context"] + 1) // 2 * 2
    return rows.assign(context=context, kv_dtype=rows["kv_dtype"].replace("fp16", "bf16"))


def _family_ratios(folder: Path, reference: Path, family: str, keys: list[str]) -> pd.DataFrame:
    names = list(dict.fromkeys(["operator", *keys]))
    own = medians(_comparable(read_table(folder, family)), names)
    reference_rows = medians(_comparable(read_table(reference, family)), keys)
    both = own.merge(reference_rows, on=keys, suffixes=("", "_reference"))
    if not len(both):
        return both
    both["ratio"] = both["seconds"] / both["seconds_reference"]
    grouped = both.groupby("operator")["ratio"]
    low, high = (grouped.quantile(share) for share in SPREAD)
    columns = {"ratio": grouped.median(), "p5": low, "p95": high, "num_cases": grouped.size()}
    return pd.DataFrame(columns).reset_index().assign(family=family)[["family", "operator", *columns]]
