"""Figures of a trace: how many requests, how they arrive, how long they are."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from traces.trace import Trace

Floats = NDArray[np.float64]
QUANTILES = (1, 10, 25, 50, 75, 90, 95, 99)
WINDOWS_S = (1, 10, 60, 600, 3600)
# Fewer windows say little about how much their counts vary.
_FEWEST_WINDOWS = 10
# Times are taken to be recorded in steps if there are fewer different ones than this share of the requests.
_STEPS = 0.5


def describe(trace: Trace) -> dict[str, Any]:
    """Return the figures of a trace; None where there is nothing to measure.

    Returns:
        num_requests, num_skipped_rows, `arrivals` (see `arrival_figures`), `sessions`, `clients` (requests by name),
        `lengths` (prompt_tokens, output_tokens, total_tokens, each with mean, std, min, max and quantiles),
        rank_correlation (Spearman's, of prompt and output), `prefix`, and notes.
    """
    prompt, output = trace.prompt_tokens, trace.output_tokens
    return {
        "num_requests": len(trace),
        "num_skipped_rows": trace.num_skipped,
        "arrivals": arrival_figures(known_s) if len(known_s := known_arrivals(trace)) else None,
        "sessions": None if trace.session is None else _session_figures(trace),
        "clients": None if trace.client is None else _client_figures(trace),
        "lengths": {
            "prompt_tokens": length_figures(prompt),
            "output_tokens": length_figures(output),
            "total_tokens": length_figures(prompt + output),
        },
        "rank_correlation": rank_correlation(trace),
        "prefix": None if trace.prefix is None else _prefix_figures(trace),
        "notes": list(trace.notes),
    }


def known_arrivals(trace: Trace) -> Floats:
    """Return the arrival times that a trace has, without those of requests that wait: float64[n]."""
    if trace.arrival_s is None:
        return np.zeros(0)
    return np.asarray(trace.arrival_s[~np.isnan(trace.arrival_s)])


def time_step_s(arrival_s: Floats) -> float | None:
    """Return the step in which times were recorded: many requests have the same; None: they were not.

    Args:
        arrival_s: float64[n], not decreasing.
    """
    different = np.unique(arrival_s)
    if len(different) < 2 or len(different) >= _STEPS * len(arrival_s):
        return None
    return float(np.median(np.diff(different)))


def arrival_figures(arrival_s: Floats) -> dict[str, Any]:
    """Return the figures of arrival times.

    Args:
        arrival_s: float64[n], not decreasing, at least one.

    Returns:
        num_arrivals, span_s from the first to the last, qps (gaps over their sum), gap_cv (standard deviation of the
        gaps over their mean; 1 in a Poisson process), peak_qps by window length (most arrivals in a window) and
        index_of_dispersion by window length in seconds (variance of the counts in windows side by side over their
        mean; 1 in a Poisson process). Of windows that fit into the span less than 10 times there is none. Also
        time_step_s, see there.
    """
    gaps = np.diff(arrival_s)
    span_s = float(arrival_s[-1] - arrival_s[0])
    if span_s == 0:
        nothing: dict[str, Any] = {"qps": None, "gap_cv": None, "peak_qps": {}, "index_of_dispersion": {}}
        return {"num_arrivals": len(arrival_s), "span_s": span_s, **nothing, "time_step_s": None}
    counts = {window_s: window_counts(arrival_s, window_s) for window_s in WINDOWS_S}
    enough = {window_s: one for window_s, one in counts.items() if len(one) >= _FEWEST_WINDOWS}
    return {
        "num_arrivals": len(arrival_s),
        "span_s": span_s,
        "qps": len(gaps) / span_s,
        "gap_cv": float(gaps.std() / gaps.mean()),
        "peak_qps": {window_s: float(one.max() / window_s) for window_s, one in enough.items()},
        "index_of_dispersion": {window_s: float(one.var() / one.mean()) for window_s, one in enough.items()},
        "time_step_s": time_step_s(arrival_s),
    }


def window_counts(arrival_s: Floats, window_s: float) -> NDArray[np.int64]:
    """Count the arrivals in each whole window from the first arrival on: int64[num_windows]."""
    since_s = arrival_s - arrival_s[0]
    num_windows = int(since_s[-1] // window_s)
    within = (since_s // window_s).astype(np.int64)
    return np.bincount(within[within < num_windows], minlength=num_windows)


def length_figures(tokens: NDArray[np.int64]) -> dict[str, float]:
    """Return mean, std, min, max and quantiles of lengths."""
    levels = np.array(QUANTILES) / 100
    found = np.quantile(tokens, levels, method="inverted_cdf").tolist()
    return {
        "mean": float(tokens.mean()),
        "std": float(tokens.std()),
        "min": int(tokens.min()),
        **{f"p{name}": int(value) for name, value in zip(QUANTILES, found, strict=True)},
        "max": int(tokens.max()),
    }


def rank_correlation(trace: Trace) -> float | None:
    """Return Spearman's correlation of prompt and output; None: all prompts or all outputs are of one length."""
    if trace.prompt_tokens.min() == trace.prompt_tokens.max() or trace.output_tokens.min() == trace.output_tokens.max():
        return None
    ranks = [pd.Series(tokens).rank().to_numpy() for tokens in (trace.prompt_tokens, trace.output_tokens)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _session_figures(trace: Trace) -> dict[str, Any]:
    assert trace.session is not None
    within = trace.session >= 0
    if not within.any():
        return {"num_sessions": 0, "turns": None, "num_in_none": len(trace)}
    turns = np.unique(trace.session[within], return_counts=True)[1]
    return {"num_sessions": len(turns), "turns": length_figures(turns), "num_in_none": int(np.count_nonzero(~within))}


def _client_figures(trace: Trace) -> dict[str, int]:
    counts = np.bincount(np.asarray(trace.client), minlength=len(trace.clients)).tolist()
    return {one.name: count for one, count in zip(trace.clients, counts, strict=True)}


def _prefix_figures(trace: Trace) -> dict[str, Any]:
    """How many blocks an earlier request had, and the hit rate of an unlimited prefix cache.

    The hit rate is the share of the prompt tokens in full blocks of an earlier request; None: the size of a
    block is unknown.
    """
    blocks = trace.prefix
    assert blocks is not None
    # An id is that of all tokens up to its end, so no request has it twice.
    seen = pd.Series(blocks.ids).duplicated().to_numpy()
    hit_rate = None
    if blocks.block_tokens is not None:
        num_found = np.count_nonzero(seen & blocks.within(trace.prompt_tokens // blocks.block_tokens))
        hit_rate = float(num_found * blocks.block_tokens / trace.prompt_tokens.sum())
    return {
        "block_tokens": blocks.block_tokens,
        "num_blocks": len(blocks.ids),
        "num_distinct_blocks": int(np.count_nonzero(~seen)),
        "repeated_share": float(seen.mean()) if len(seen) else 0.0,
        "hit_rate": hit_rate,
    }
