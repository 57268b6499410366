"""Rows of the wheels that cannot be right."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from profiling.tables import Header
from simulator.model import WEIGHT_DTYPES

BYTES_PER_VALUE = 2
# A format whose shortest matrix product takes longer was timed with its host path.
LONGEST_FLOOR_S = 50e-6
# A format with fewer shapes was not measured on the grid.
MIN_SHAPES = 100
# Links of a group attain at least this share of those of two GPUs.
MIN_LINK_SHARE = 0.3
HALF = "bf16"
# Experts of no more tokens are bound by reading weights.
MOST_FEW_TOKENS = 64
# Measurement noise: rows may exceed a peak by this factor.
TOLERANCE = 1.02

Check = Callable[[pd.DataFrame, Header], Iterator[tuple[str, "pd.Series[bool]"]]]


def drop_doubtful(family: str, rows: pd.DataFrame, header: Header) -> tuple[pd.DataFrame, list[str]]:
    """Drop rows that cannot be right.

    Returns:
        The other rows, and a line for each reason with the number of rows dropped.
    """
    reasons = []
    for check in (_without_time, *_CHECKS.get(family, ())):
        for reason, is_doubtful in check(rows, header):
            if is_doubtful.any():
                reasons.append(f"{int(is_doubtful.sum()):,} rows dropped: {reason}")
                rows = rows[~is_doubtful.reindex(rows.index, fill_value=False)]
    return rows.reset_index(drop=True), reasons


def _without_time(rows: pd.DataFrame, _: Header) -> Iterator[tuple[str, "pd.Series[bool]"]]:
    yield "no time above 0", ~(rows["seconds"] > 0)


def _formats(rows: pd.DataFrame, _: Header) -> Iterator[tuple[str, "pd.Series[bool]"]]:
    """Yield formats not simulated, without a grid, or with host time."""
    for dtype in sorted(set(rows["dtype"])):
        group = rows[rows["dtype"] == dtype]
        if dtype not in WEIGHT_DTYPES:
            yield f"{dtype} is not simulated", rows["dtype"] == dtype
            continue
        shapes, floor_s = len(group[["k", "n"]].drop_duplicates()), group["seconds"].min()
        inside = rows["dtype"] == dtype
        if shapes < MIN_SHAPES:
            yield f"{dtype} has {shapes} shapes alone", inside
        elif floor_s > LONGEST_FLOOR_S:
            yield f"no {dtype} product is shorter than {floor_s * 1e6:.0f} us: a host path was timed", inside


def _above_matrix_peak(rows: pd.DataFrame, header: Header) -> Iterator[tuple[str, "pd.Series[bool]"]]:
    peak = rows["dtype"].map(header.format_tflops).fillna(header.peak_tflops) * 1e12
    rate = 2.0 * rows["num_tokens"] * rows["k"] * rows["n"] / rows["seconds"]
    yield "faster than the peak matrix rate", rate > TOLERANCE * peak


def _decode_from_cache(rows: pd.DataFrame, header: Header) -> Iterator[tuple[str, "pd.Series[bool]"]]:
    """Yield decodes whose keys and values came from the L2 cache."""
    value_bytes = np.where(rows["kv_dtype"] == "fp8", 1, BYTES_PER_VALUE)
    context = rows["context"].where(rows["window"] == 0, np.minimum(rows["context"], rows["window"]))
    num_bytes = 2.0 * rows["kv_heads"] * rows["head_dim"] * value_bytes * rows["batch"] * context
    rate = num_bytes / rows["seconds"]
    is_decode = rows["operator"] == "decode_attention"
    yield "decodes faster than the memory bandwidth", is_decode & (rate > header.bandwidth_gb_per_s * 1e9)


def _prefill_above_peak(rows: pd.DataFrame, header: Header) -> Iterator[tuple[str, "pd.Series[bool]"]]:
    width = rows["q_heads"] * rows["head_dim"] * rows["batch"] * rows["num_tokens"]
    pairs = rows["context"] + rows["num_tokens"] / 2
    pairs = pairs.where(rows["window"] == 0, np.minimum(pairs, rows["window"]))
    rate = 4.0 * width * pairs / rows["seconds"]
    peak = header.format_tflops.get("fp8", header.peak_tflops) * 1e12
    is_prefill = rows["operator"] == "prefill_attention"
    yield "prefill faster than the peak matrix rate", is_prefill & (rate > TOLERANCE * peak)


def _slower_experts(rows: pd.DataFrame, _: Header) -> Iterator[tuple[str, "pd.Series[bool]"]]:
    """Yield formats of experts slower than half precision for few tokens.

    They read fewer bytes, which is what takes the time, so no engine would choose that kernel.
    """
    cases = ["hidden_size", "ffn_size", "num_experts", "experts_per_token", "tp", "ep", "routing", "num_tokens"]
    few = rows[rows["num_tokens"] <= MOST_FEW_TOKENS].groupby(["dtype", *cases])["seconds"].median().unstack(0)
    for dtype in [name for name in few.columns if name != HALF and HALF in few.columns]:
        ratio = (few[dtype] / few[HALF]).median()
        if ratio > 1:
            yield f"experts in {dtype} take {ratio:.1f} times as long as in {HALF}", rows["dtype"] == dtype


def _broken_links(rows: pd.DataFrame, _: Header) -> Iterator[tuple[str, "pd.Series[bool]"]]:
    """Yield groups of GPUs whose links do not work."""
    reduces = rows[rows["operator"] == "all_reduce"]
    reduces = reduces[reduces["num_bytes"] == reduces["num_bytes"].max()].set_index("num_gpus")
    count = reduces.index.to_series()
    rate = (2 * (count - 1) / count) * reduces["num_bytes"] / reduces["seconds"]
    best = rate.sort_index().iloc[0] if len(rate) else 0.0
    for num_gpus in [int(group) for group in rate.index if rate[group] < best * MIN_LINK_SHARE]:
        share = f"{rate[num_gpus] / 1e9:.1f} of {best / 1e9:.1f} GB/s"
        yield (
            f"all-reduces of {num_gpus} GPUs attain {share}: the links of that host do not work",
            (rows["num_gpus"] == num_gpus),
        )


def _repeated(rows: pd.DataFrame, _: Header) -> Iterator[tuple[str, "pd.Series[bool]"]]:
    keys = [name for name in rows.columns if name not in ("seconds_min", "seconds_std", "library")]
    yield "repeated", rows.duplicated(keys)


_CHECKS: dict[str, tuple[Check, ...]] = {
    "matmul": (_formats, _above_matrix_peak),
    "attention": (_decode_from_cache, _prefill_above_peak),
    "experts": (_slower_experts,),
    "communication": (_repeated, _broken_links),
}
