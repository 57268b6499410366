"""Charts of runs: latencies, tokens, KV memory, queue, batches, prefix cache."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from bokeh.models import Range1d

from simulator.plot import longest_stall
from simulator.report.charts import Axis, Chart, Key, key_of, new_drawing, shade
from simulator.report.curves import Curves, Floats, draw_curves, draw_quantiles
from simulator.report.pipeline_charts import pipeline_charts
from simulator.report.thinning import SHARES, IterationValues, interval_means, quantiles, shared_steps
from simulator.results import (
    LATENCIES,
    ReplicaResult,
    Result,
    Steps,
    duration,
    evicted_blocks,
    kv_use,
    output_tokens,
    prefix_cache_hits,
    queue_length,
    time_span,
)

Runs = Mapping[str, Result]
_LATENCIES = ("ttft_s", "tbt_s", "tpot_s", "e2e_s")
# Intervals of a chart, and of all its curves together: as many as a screen has pixels.
_BINS, _MAX_BINS = 1000, 4000
_COARSE_BINS = 100
# Length of the window around the longest stall, in such stalls, and its minimum.
_STALLS_SHOWN, _MIN_WINDOW_S = 8, 2.0
_TIME = Axis("time, s")
_PROMPTS = Axis("prompt tokens in computation", "0,0")
# Words and colours of faults, by kind.
_FAULTS = {
    "failure": ("replica down", "#c0392b"),
    "slowdown": ("replica slow", "#d98200"),
    "network": ("network slow", "#7d3c98"),
}
# More are in the table of faults only.
_MAX_FAULTS = 200


def run_charts(runs: Runs) -> Iterator[Chart]:
    """Yield the charts of all runs together, then of each pipeline.

    Charts over time share their range: a zoom into one is a zoom into all.

    Args:
        runs: Runs by name, in the order of their series.
    """
    names = dict(enumerate(runs if len(runs) > 1 else [""]))
    results = dict(enumerate(runs.values()))
    for metric in _LATENCIES:
        yield from _cdf(metric, results, names)
    if not any(len(replica.logged.end_s) for result in results.values() for replica in result.replicas):
        return
    begin_s, end_s = time_span(results.values())
    shared = Range1d(begin_s, end_s, bounds="auto")
    yield _tokens(results, names, shared)
    yield from _around_stall(results, names)
    over_time = (*_memory(results, names, shared), *_batches(results, names, shared))
    for chart in (*over_time, *_prefix_cache(results, names, shared)):
        yield _with_faults(chart, results)
    for index, result in results.items():
        yield from pipeline_charts(result, names[index])


def _keys(names: Mapping[int, str], shown: Sequence[int] | None = None) -> list[Key]:
    if len(names) == 1:
        return []
    return [key_of(index, name) for index, name in names.items() if shown is None or index in shown]


def _cdf(metric: str, results: Mapping[int, Result], names: Mapping[int, str]) -> Iterator[Chart]:
    values = {index: 1e3 * quantiles(result.latencies[metric]) for index, result in results.items()}
    known = np.concatenate(list(values.values()))
    known = known[np.isfinite(known)]
    if len(known) == 0:
        return
    # Times of 0 have no place on a logarithmic axis.
    is_log = known.max() > 10 * known[known > 0].min(initial=np.inf)
    share = Axis(f"{'gaps' if metric == 'tbt_s' else 'requests'} at or below, %", "0.[00]")
    time = Axis(f"{LATENCIES[metric]}, ms", "0,0.[00]", is_log)
    if is_log:
        values = {index: np.where(curve > 0, curve, np.nan) for index, curve in values.items()}
    drawing = new_drawing(time, share)
    draw_quantiles(drawing, (time, share), 100 * SHARES, values, names)
    empty = [names[index] for index, curve in values.items() if not np.isfinite(curve).any()]
    note = f"no samples: {', '.join(empty)}" if empty else ""
    yield Chart(LATENCIES[metric].capitalize(), drawing, _keys(names), note)


def _tokens(results: Mapping[int, Result], names: Mapping[int, str], shared: Range1d) -> Chart:
    tokens = {index: output_tokens(result) for index, result in results.items()}
    time_s, values = shared_steps(tokens, (shared.start, shared.end))
    axis = Axis("output tokens", "0,0")
    drawing = new_drawing(_TIME, axis, shared)
    draw_curves(drawing, (_TIME, axis), Curves(time_s, values), names, shape="steps")
    note = "flat parts are generation stalls"
    if len(time_s) < sum(len(steps.time_s) for steps in tokens.values()):
        note += "; of long runs, evenly spaced steps and both ends of the longest pauses"
    return Chart("Output tokens over time", drawing, _keys(names), note, is_wide=True)


def _around_stall(results: Mapping[int, Result], names: Mapping[int, str]) -> Iterator[Chart]:
    """Yield the tokens and the prompts around the longest stall.

    Of a run with several replicas, only the replica that stalled is shown.
    """
    stalls = {index: longest_stall(result) for index, result in results.items()}
    worst = max(stalls, key=lambda index: stalls[index].length_s)
    stall = stalls[worst]
    if not stall.length_s:
        return
    window_s = max(_STALLS_SHOWN * stall.length_s, _MIN_WINDOW_S)
    from_s = max(0.0, stall.begin_s - (window_s - stall.length_s) / 2)
    shown = {index: result for index, result in results.items() if index == worst or len(result.replicas) == 1}
    replica_of = {index: stall.replica if index == worst else 0 for index in shown}
    since = Axis(f"output tokens since {from_s:,.1f} s", "0,0")
    tokens = [_tokens_since(result, replica_of[index], from_s) for index, result in shown.items()]
    prompts = [_prompts(result.replicas[replica_of[index]]) for index, result in shown.items()]
    parts = (("Around the longest stall", since, tokens), ("Prompts computed around it", _PROMPTS, prompts))
    until_s = min(from_s + window_s, max(result.end_s for result in shown.values()))
    shared = Range1d(from_s, until_s)
    replica = f", replica {stall.replica}" if len(results[worst].replicas) > 1 else ""
    owner = (names[worst] + replica).removeprefix(", ")
    note = f"shaded: {', '.join(part for part in (owner, duration(stall.length_s)) if part)}"
    for title, axis, curves in parts:
        time_s, values = shared_steps(dict(zip(shown, curves, strict=True)), (from_s, until_s))
        drawing = new_drawing(_TIME, axis, shared)
        draw_curves(drawing, (_TIME, axis), Curves(time_s, values), names, shape="steps")
        shade(drawing, stall.begin_s, stall.begin_s + stall.length_s, "#777777", worst)
        yield Chart(title, drawing, _keys(names, list(shown)), note)


def _tokens_since(result: Result, replica: int, from_s: float) -> Steps:
    steps = output_tokens(result, [replica])
    return Steps(steps.time_s, steps.value - steps.at(np.array([from_s])))


def _prompts(replica: ReplicaResult) -> Steps:
    """Return the prompt tokens of the iteration that is computed."""
    columns, end_s = replica.logged.columns, replica.logged.end_s
    start_s, tokens = columns["start_s"], columns["num_prefill_tokens"].astype(np.float64)
    # The sum over iterations: in a pipeline, several are computed at the same time.
    return Steps.of_changes(np.concatenate([start_s, end_s]), np.concatenate([tokens, -tokens]))


def _memory(results: Mapping[int, Result], names: Mapping[int, str], shared: Range1d) -> Iterator[Chart]:
    edges = _edges(shared, _MAX_BINS // len(results))
    parts = (
        ("KV cache usage over time", Axis("KV blocks in use, %", "0.[0]"), kv_use, 100.0),
        ("Queue over time", Axis("requests waiting", "0,0.[0]"), queue_length, 1.0),
    )
    for title, axis, steps_of, factor in parts:
        steps = {index: steps_of(result) for index, result in results.items()}
        means = {index: factor * own.mean(edges) for index, own in steps.items()}
        tops = {index: factor * own.largest(edges) for index, own in steps.items()}
        note = f"line: exact mean of each of {len(edges) - 1:,} intervals; shaded: up to its maximum"
        yield _over_time(title, axis, Curves(_middles(edges), means, tops), names, shared, note)


def _edges(shared: Range1d, num_bins: int) -> Floats:
    """Return the edges of intervals, at most _BINS and at least _COARSE_BINS."""
    return np.linspace(shared.start, shared.end, min(_BINS, max(_COARSE_BINS, num_bins)) + 1)


def _batches(results: Mapping[int, Result], names: Mapping[int, str], shared: Range1d) -> Iterator[Chart]:
    edges = _edges(shared, _MAX_BINS // len(results))
    for column, title in (
        ("num_prefill_tokens", "Prompt tokens per iteration"),
        ("num_decodes", "Decodes per iteration"),
    ):
        means = {}
        for index, result in results.items():
            means[index] = interval_means([_values_of(replica, column) for replica in result.replicas], edges)
        axis = Axis(f"{title.partition(' per')[0].lower()} / iteration", "0,0.[0]")
        note = f"mean of the iterations that end in each of {len(edges) - 1:,} intervals, or go on in it; gap: idle"
        yield _over_time(title, axis, Curves(_middles(edges), means), names, shared, note)


def _values_of(replica: ReplicaResult, column: str) -> IterationValues:
    log = replica.logged
    order = np.argsort(log.end_s, kind="stable")
    return log.columns["start_s"][order], log.end_s[order], log.columns[column][order]


def _prefix_cache(results: Mapping[int, Result], names: Mapping[int, str], shared: Range1d) -> Iterator[Chart]:
    caching = {index: result for index, result in results.items() if result.summary["prefix_cache"] is not None}
    if not caching:
        return
    edges = np.linspace(shared.start, shared.end, _COARSE_BINS + 1)
    rates, evictions = {}, {}
    for index, result in caching.items():
        prompt, cached = (np.diff(steps.at(edges)) for steps in prefix_cache_hits(result))
        rates[index] = np.divide(100 * cached, prompt, out=np.full(_COARSE_BINS, np.nan), where=prompt > 0)
        evictions[index] = np.diff(evicted_blocks(result).at(edges)) / (edges[1] - edges[0])
    note = f"requests first admitted in each of {_COARSE_BINS} intervals"
    hits = Axis("prompt tokens cached, %", "0.[0]")
    yield _over_time("Prefix cache hits over time", hits, Curves(_middles(edges), rates), names, shared, note)
    axis = Axis("blocks evicted/s", "0,0.[0]")
    yield _over_time("Evictions from the prefix cache", axis, Curves(_middles(edges), evictions), names, shared)


def _middles(edges: Floats) -> Floats:
    return np.asarray((edges[:-1] + edges[1:]) / 2)


def _over_time(
    title: str, axis: Axis, curves: Curves, names: Mapping[int, str], shared: Range1d, note: str = ""
) -> Chart:
    drawing = new_drawing(_TIME, axis, shared)
    draw_curves(drawing, (_TIME, axis), curves, names)
    drawing.y_range.start = 0
    return Chart(title, drawing, _keys(names, list(curves.values)), note, is_wide=True)


def _with_faults(chart: Chart, results: Mapping[int, Result]) -> Chart:
    """Return a chart over time with its faults shaded, and their legend."""
    kinds = {}
    for index, result in results.items():
        for span in result.faults.spans[:_MAX_FAULTS]:
            shade(chart.drawing, span.at_s, min(span.end_s, result.end_s), _FAULTS[span.kind][1], index)
            kinds[span.kind] = Key(*_FAULTS[span.kind], is_area=True)
    return replace(chart, keys=[*chart.keys, *kinds.values()])
