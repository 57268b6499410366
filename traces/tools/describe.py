"""Statistics of a trace: arrivals, lengths, sessions and prefixes."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from traces.trace import Trace

Floats = NDArray[np.float64]
QUANTILES = (1, 10, 25, 50, 75, 90, 95, 99)
WINDOWS_S = (1, 10, 60, 600, 3600)
# With fewer windows, the variance of their counts is too noisy.
_FEWEST_WINDOWS = 10
# Arrival times count as recorded in steps if the distinct ones are fewer than this share of the requests.
_DISTINCT_SHARE = 0.5


def describe(trace: Trace) -> dict[str, Any]:
    """Return the statistics of a trace.

    Returns:
        num_requests, num_skipped_rows, `arrivals` (see `arrival_figures`), `sessions`, `clients` (requests by class
        name), `lengths` (prompt_tokens, output_tokens, total_tokens, each with mean, std, min, max and percentiles),
        rank_correlation (Spearman's, of prompt and output), `prefix`, and notes. None for what the trace lacks.
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
        "notes": [note.text for note in trace.notes],
    }


def known_arrivals(trace: Trace) -> Floats:
    """Return the known arrival times, without requests that wait: float64[n]."""
    if trace.arrival_s is None:
        return np.zeros(0)
    return np.asarray(trace.arrival_s[~np.isnan(trace.arrival_s)])


def time_step_s(arrival_s: Floats) -> float | None:
    """Return the resolution of recorded arrival times, seconds.

    Args:
        arrival_s: float64[n], not decreasing.

    Returns:
        The median distance of distinct times; None: too few requests share an arrival time.
    """
    distinct = np.unique(arrival_s)
    if len(distinct) < 2 or len(distinct) >= _DISTINCT_SHARE * len(arrival_s):
        return None
    return float(np.median(np.diff(distinct)))


def arrival_figures(arrival_s: Floats) -> dict[str, Any]:
    """Return the statistics of arrival times.

    Args:
        arrival_s: float64[n], n at least 1, not decreasing.

    Returns:
        num_arrivals; span_s from the first to the last arrival; qps (number of inter-arrival times over their sum);
        gap_cv (coefficient of variation of the inter-arrival times; 1 for a Poisson process); peak_qps (rate in the
        busiest window) and index_of_dispersion (variance of the counts in adjacent windows over their mean; 1 for a
        Poisson process), both by window length in seconds, without windows that fit into the span fewer than 10
        times; time_step_s (see `time_step_s`).
    """
    gaps = np.diff(arrival_s)
    span_s = float(arrival_s[-1] - arrival_s[0])
    if span_s == 0:
        undefined: dict[str, Any] = {"qps": None, "gap_cv": None, "peak_qps": {}, "index_of_dispersion": {}}
        return {"num_arrivals": len(arrival_s), "span_s": span_s, **undefined, "time_step_s": None}
    counts = {window_s: window_counts(arrival_s, window_s) for window_s in WINDOWS_S}
    counts = {window_s: values for window_s, values in counts.items() if len(values) >= _FEWEST_WINDOWS}
    return {
        "num_arrivals": len(arrival_s),
        "span_s": span_s,
        "qps": len(gaps) / span_s,
        "gap_cv": float(gaps.std() / gaps.mean()),
        "peak_qps": {window_s: float(values.max() / window_s) for window_s, values in counts.items()},
        "index_of_dispersion": {window_s: float(values.var() / values.mean()) for window_s, values in counts.items()},
        "time_step_s": time_step_s(arrival_s),
    }


def window_counts(arrival_s: Floats, window_s: float) -> NDArray[np.int64]:
    """Count arrivals in adjacent windows from the first arrival on.

    Returns:
        int64[num_windows], without the last window if the span does not fill it.
    """
    since_s = arrival_s - arrival_s[0]
    num_windows = int(since_s[-1] // window_s)
    window = (since_s // window_s).astype(np.int64)
    return np.bincount(window[window < num_windows], minlength=num_windows)


def length_figures(tokens: NDArray[np.int64]) -> dict[str, float]:
    """Return mean, standard deviation, min, max and percentiles of lengths."""
    levels = np.array(QUANTILES) / 100
    values = np.quantile(tokens, levels, method="inverted_cdf").tolist()
    return {
        "mean": float(tokens.mean()),
        "std": float(tokens.std()),
        "min": int(tokens.min()),
        **{f"p{name}": int(value) for name, value in zip(QUANTILES, values, strict=True)},
        "max": int(tokens.max()),
    }


def rank_correlation(trace: Trace) -> float | None:
    """Return Spearman's rank correlation of prompt and output lengths.

    None: all prompts or all outputs are equal.
    """
    if trace.prompt_tokens.min() == trace.prompt_tokens.max() or trace.output_tokens.min() == trace.output_tokens.max():
        return None
    ranks = [pd.Series(tokens).rank().to_numpy() for tokens in (trace.prompt_tokens, trace.output_tokens)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _session_figures(trace: Trace) -> dict[str, Any]:
    assert trace.session is not None
    in_session = trace.session >= 0
    if not in_session.any():
        return {"num_sessions": 0, "turns": None, "num_in_none": len(trace)}
    turns = np.unique(trace.session[in_session], return_counts=True)[1]
    num_outside = int(np.count_nonzero(~in_session))
    return {"num_sessions": len(turns), "turns": length_figures(turns), "num_in_none": num_outside}


def _client_figures(trace: Trace) -> dict[str, int]:
    counts = np.bincount(np.asarray(trace.client), minlength=len(trace.clients)).tolist()
    return {client.name: count for client, count in zip(trace.clients, counts, strict=True)}


def _prefix_figures(trace: Trace) -> dict[str, Any]:
    """Return the statistics of the prefix blocks.

    The hit rate is that of an unlimited prefix cache: the share of prompt tokens in full blocks that an earlier request
    has too; None: the block size is unknown.
    """
    blocks = trace.prefix
    assert blocks is not None
    # An id stands for all tokens up to the end of its block, so no request has it twice.
    is_repeated = pd.Series(blocks.ids).duplicated().to_numpy()
    hit_rate = None
    if blocks.block_tokens is not None:
        num_hits = np.count_nonzero(is_repeated & blocks.first_mask(trace.prompt_tokens // blocks.block_tokens))
        hit_rate = float(num_hits * blocks.block_tokens / trace.prompt_tokens.sum())
    return {
        "block_tokens": blocks.block_tokens,
        "num_blocks": len(blocks.ids),
        "num_distinct_blocks": int(np.count_nonzero(~is_repeated)),
        "repeated_share": float(is_repeated.mean()) if len(is_repeated) else 0.0,
        "hit_rate": hit_rate,
    }
