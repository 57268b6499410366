"""Experiments of the paper as functions of their settings.

Each can run in its own process.
"""

from collections.abc import Sequence

from simulator.capacity import find_capacity, load_capacity
from simulator.config import load_config
from simulator.iteration_time import LINEAR_OPERATORS, StageTimes
from simulator.replica import Batch
from simulator.reproduce.published import ARXIV, CHAT
from simulator.simulation import simulate

Figures = dict[str, float]
Overrides = Sequence[str]

TRACES = {
    CHAT: ("trace=sharegpt", "model.max_model_len=8192"),
    ARXIV: ("trace=arxiv", "model.max_model_len=16384"),
}
PROTOCOL = ("trace.num_requests=2048", "time_limit_s=1800", "metrics.zero_first_gap=true")


def capacity(overrides: Overrides) -> Figures:
    """Return the capacity by the paper's protocol, the mean over the seeds."""
    task = load_capacity(*PROTOCOL, *overrides)
    rates = [find_capacity(task.experiment.trials(seed), task.search).qps for seed in task.seeds]
    return {"capacity_qps": sum(rates) / len(rates)}


def serving(overrides: Overrides) -> Figures:
    """Return P50 and P99 of TTFT and TBT under a load.

    NaN if there was nothing to measure.
    """
    latencies = simulate(**load_config(*overrides)).latencies
    values = {
        f"{name}_{statistic}": latencies[name].statistic(statistic)
        for name in ("ttft_s", "tbt_s")
        for statistic in ("p50", "p99")
    }
    return {name: float("nan") if value is None else value for name, value in values.items()}


def hybrid_batch(overrides: Overrides, batch: int, context: int, budget: int) -> Figures:
    """Return the milliseconds of decodes, alone and batched with a prompt.

    The batch has the prompt's last chunk up to the budget, or the whole prompt.
    """
    times = _stage_times(overrides)
    decodes, chunk = [(batch, context)], budget - batch
    return {
        "decode_only_ms": _ms(times, Batch.of([], decodes)),
        "decode_plus_chunk_ms": _ms(times, Batch.of([(chunk, context - chunk)], decodes)),
        "decode_plus_full_ms": _ms(times, Batch.of([(context, 0)], decodes)),
    }


def chunking_overhead(overrides: Overrides, prompt: int, chunk: int) -> Figures:
    """Return the time of a chunked prompt relative to an unchunked one."""
    times = _stage_times(overrides)
    starts = range(0, prompt, chunk)
    chunked = sum(_ms(times, Batch.of([(min(chunk, prompt - start), start)], [])) for start in starts)
    return {"chunked_over_whole": chunked / _ms(times, Batch.of([(prompt, 0)], []))}


def bubble(overrides: Overrides, prompt: int, batch: int, context: int) -> Figures:
    """Return the seconds of a prompt, of decodes and of their bubble.

    In the first pipeline stage; the bubble is the difference.
    """
    times = _stage_times(overrides)
    prefill_s = times(Batch.of([(prompt, 0)], []))[0]
    decode_s = times(Batch.of([], [(batch, context)]))[0]
    return {"prefill_4096_s": prefill_s, "decode_32_s": decode_s, "bubble_s": prefill_s - decode_s}


def linear_layers(overrides: Overrides, tokens: Sequence[int]) -> Figures:
    """Return the ms and FLOP/byte of an iteration's linear layers by tokens.

    `balance_tokens` is where the memory-bound time (at 64 tokens) meets the compute-bound line (through 2048 and
    4096 tokens, without its offset).
    """
    times = _stage_times(overrides)
    assert times.operators is not None
    values: Figures = {}
    for count in sorted({*tokens, 64, 2048, 4096}):
        operators = [row for row in times.operators(Batch.of([(count, 0)], []), 0) if row.name in LINEAR_OPERATORS]
        values[f"linear_ms_{count}"] = 1e3 * sum(row.seconds_per_layer * row.layers for row in operators)
        num_flops, num_bytes = (
            sum(getattr(row, name) for row in operators) for name in ("flops_per_layer", "bytes_per_layer")
        )
        values[f"intensity_{count}"] = num_flops / num_bytes
    slope = (values["linear_ms_4096"] - values["linear_ms_2048"]) / 2048
    return values | {"balance_tokens": values["linear_ms_64"] / slope}


def _stage_times(overrides: Overrides) -> StageTimes:
    arguments = load_config(*overrides, "kv_cache.num_blocks=1", "trace.num_requests=1")
    times: StageTimes = arguments["deployment"].stage_times()
    return times


def _ms(times: StageTimes, batch: Batch) -> float:
    return 1e3 * sum(times(batch))
