"""Bottlenecks of a run, as text.

Their shares come from exact sums over requests and iterations.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.results.formatting import duration
from simulator.results.latency import percentile_of, rank
from simulator.results.over_time import queue_length
from simulator.results.result import Result
from simulator.results.tokens import gap_spans

# Smallest shares of some and of strong bottlenecks.
SOME, STRONG = 0.05, 0.2
_SATURATED = 0.9
_LITTLE = 0.01
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Bottleneck:
    """A possible bottleneck of a run.

    Attributes:
        name: "queueing", "KV memory", "prefill interference", "pipeline bubbles" or "host overhead".
        share: Share of time lost to it, 0 to 1: of the time to first token (queueing), the run (KV memory, pipeline
            bubbles), the time between tokens (prefill interference) or the stages' busy time (host overhead).
        text: One or two sentences with the figures.
    """

    name: str
    share: float
    text: str

    @property
    def level(self) -> str:
        """Severity: strong, some or none."""
        return "strong" if self.share >= STRONG else "some" if self.share >= SOME else "none"


def bottlenecks(result: Result) -> list[Bottleneck]:
    """Return the possible bottlenecks of a run, largest share first.

    Bottlenecks without data in the run are left out.
    """
    findings = [_queueing(result), _memory(result), _interference(result), _bubbles(result), _host(result)]
    return sorted((finding for finding in findings if finding is not None), key=lambda finding: -finding.share)


def utilisation(result: Result) -> str:
    """Describe in a sentence or two how busy the GPUs were."""
    stages = [stage for replica in result.summary["replicas"] for stage in replica["stages"] or []]
    if not stages:
        return "The run took no time."
    busy, no_work = (float(np.mean([stage[name] for stage in stages])) for name in ("busy", "no_work"))
    text = f"Stages were busy {busy:.0%} of the time and had no work {no_work:.0%} of the time."
    waits_forever = result.num_by_status["num_stuck"] or result.num_by_status["num_unfinished"]
    if busy >= _SATURATED:
        if result.overloaded:
            text += " They were saturated: more requests arrived than they could serve."
        else:
            text += " They were nearly saturated, yet larger batches may take little longer."
    elif no_work >= STRONG and not waits_forever and not result.overloaded:
        text += " Fewer requests arrived than could be served."
    return text


def _queueing(result: Result) -> Bottleneck | None:
    table = result.requests
    started = result.counted & ~np.isnan(table["first_token_s"])
    delay = result.latencies["scheduling_delay_s"]
    mean_s = delay.statistic("mean")
    if mean_s is None:
        return None
    text = f"Requests waited {duration(mean_s)} on average (P99 {duration(delay.statistic('p99'))}) to be scheduled"
    ttft_s = float((table["first_token_s"] - table["arrival_s"])[started].sum())
    share = 1.0
    if ttft_s > 0:
        waited_s = float((table["first_scheduled_s"] - table["arrival_s"])[started].sum())
        share = waited_s / ttft_s
        text += f": {share:.0%} of the time to first token, over requests that got one"
    text += "."
    if result.overloaded:
        text += " The run is overloaded: requests arrived faster than they were served."
    num_stuck = result.num_by_status["num_stuck"]
    if num_stuck:
        text += f" {num_stuck:,} requests wait forever."
    return Bottleneck("queueing", share, text)


def _memory(result: Result) -> Bottleneck | None:
    blocked = [_blocked_s(result, number) for number in range(len(result.replicas))]
    waiting_s, memory_s = (sum(seconds[index] for seconds in blocked) for index in (0, 1))
    span_s = len(result.replicas) * (result.end_s - float(np.nanmin(result.requests["arrival_s"])))
    use = result.summary["kv_use"]
    if span_s <= 0 or use["mean"] is None:
        return None
    waiting, share = waiting_s / span_s, memory_s / span_s
    text = f"KV blocks were {use['mean']:.0%} used on average, {use['max']:.0%} at most. "
    if waiting < _LITTLE:
        text += "Requests hardly ever waited."
    else:
        text += f"Requests waited {waiting:.0%} of the time: {share:.0%} because too few blocks were free for the next "
        text += "request, the rest because of the current iteration or the policy's limits on tokens and sequences."
    num_preemptions = sum(replica.num_preemptions for replica in result.replicas)
    if num_preemptions:
        num_preempted = int(np.count_nonzero(result.requests["num_preemptions"]))
        text += f" {num_preemptions:,} preemptions made {num_preempted:,} requests recompute their tokens."
    return Bottleneck("KV memory", share, text)


def _blocked_s(result: Result, number: int) -> tuple[float, float]:
    """Return the seconds with requests waiting, in total and for KV blocks.

    Requests wait for KV blocks while too few are free for the next admission.
    """
    replica = result.replicas[number]
    columns, request_events = replica.logged.columns, replica.request_events
    scheduled_s = columns["schedule_s"]
    queue = queue_length(result, [number])
    if len(queue.time_s) == 0:
        return 0.0, 0.0
    length_s = np.diff(np.append(queue.time_s, max(result.end_s, queue.time_s[-1])))
    waiting_s = float(length_s[queue.value > 0].sum())
    if len(scheduled_s) == 0:
        return waiting_s, 0.0
    # Decisions that leave requests waiting although the next one to be admitted has too few blocks.
    index = np.searchsorted(queue.time_s, scheduled_s, side="right") - 1
    left_waiting = (index >= 0) & (queue.value[np.maximum(index, 0)] > 0)
    last_s = replica.logged.end_s.max()
    decided_s = np.append(scheduled_s[1:], last_s) - scheduled_s
    # The first admission by a later decision; requests that are stuck at the end wait for blocks if there is none.
    following = np.searchsorted(request_events.admissions[:, 1], np.arange(len(scheduled_s)), side="right")
    never_free = replica.num_blocks + 1 if replica.stuck_reason else 0  # what a stuck request needs
    needed = np.append(request_events.blocks_needed, never_free)[following]
    memory_s = float(decided_s[left_waiting & (columns["free_blocks"] < needed)].sum())
    if replica.stuck_reason:
        # Requests that wait after the last iteration.
        later_s = np.clip(np.append(queue.time_s, result.end_s), last_s, result.end_s)
        memory_s += float(np.diff(later_s)[queue.value > 0].sum())
    return waiting_s, memory_s


def _interference(result: Result) -> Bottleneck | None:
    """Compare token gaps in which prompt tokens were computed with the others."""
    parts = [_gaps(result, number) for number in range(len(result.replicas))]
    gaps, weights, beside = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    total, with_prompts = int(weights.sum()), int(weights[beside].sum())
    if total == 0:
        return None
    if with_prompts in (0, total):
        share_text = "all" if with_prompts else "none"
        text = f"Prompt tokens were computed in {share_text} of the gaps between consecutive tokens of a request."
        return Bottleneck("prefill interference", 0.0, text)
    alone_s = float((gaps * weights)[~beside].sum() / (total - with_prompts))
    beside_s = float((gaps * weights)[beside].sum() / with_prompts)
    all_s = float((gaps * weights).sum())
    share = max(0.0, with_prompts * (beside_s - alone_s) / all_s)
    order = np.argsort(gaps, kind="stable")
    tail = order[np.searchsorted(np.cumsum(weights[order]), rank(percentile_of("p99"), total)) :]
    in_tail = weights[tail][beside[tail]].sum() / weights[tail].sum()
    text = (
        f"The next token took {duration(alone_s)} on average while no prompt was computed and "
        f"{duration(beside_s)} when one was ({with_prompts / total:.0%} of gaps, {in_tail:.0%} of the slowest 1%); "
        f"prompts add {share:.0%} of the time between tokens."
    )
    return Bottleneck("prefill interference", share, text)


def _gaps(result: Result, number: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return the token gaps of a replica.

    Returns:
        float64[n] seconds, int64[n] requests with each gap, and bool[n] whether prompt tokens were computed in it.
    """
    replica, stays = result.replicas[number], result.stays
    end_s = replica.logged.end_s
    left = stays.at((stays.replica == number) & ~np.isnan(stays.left_s))
    num_iterations = np.searchsorted(end_s, left.left_s, side="right")
    spans = gap_spans(replica.tokens, result.counted, np.stack([left.request, num_iterations], axis=1))
    prompts = np.append(0, np.cumsum(replica.logged.columns["num_prefill_tokens"]))
    beside = prompts[spans.last + 1] > prompts[spans.first + 1]
    return end_s[spans.last] - end_s[spans.first], spans.weight, beside


def _bubbles(result: Result) -> Bottleneck | None:
    pipelines = [replica["stages"] for replica in result.summary["replicas"] if replica["pp"] > 1]
    stages = [stage for pipeline in pipelines for stage in pipeline or []]
    if not stages:
        return None
    causes = {name: float(np.mean([stage[name] for stage in stages])) for name in _BUBBLES}
    share = sum(causes.values())
    largest = max(causes, key=lambda name: causes[name])
    text = f"Pipeline stages were idle {share:.0%} of the time although there was work in the pipeline"
    if share > 0:
        text += f", most of it ({causes[largest]:.0%}) because of {_BUBBLES[largest]}"
    return Bottleneck("pipeline bubbles", share, f"{text}.")


_BUBBLES = {
    "waiting_for_upstream": "batches that were still in earlier stages",
    "waiting_for_downstream": "a full pipeline, so that no further batch could be formed",
    "uneven_micro_batches": "micro-batches of different lengths",
}


def _host(result: Result) -> Bottleneck | None:
    host_s = launching_s = busy_s = 0.0
    for replica in result.replicas:
        spans = replica.stage_spans
        if replica.provenance is None or replica.provenance.host is None or spans is None:
            return None
        host, columns = replica.provenance.host, replica.logged.columns
        per_iteration_s = host.base_s + host.per_seq_s * (columns["num_prefills"] + columns["num_decodes"])
        computing_s = spans[:, :, 1] - spans[:, :, 0]
        bound = computing_s - per_iteration_s[:, np.newaxis] <= np.array(host.launch_s) * (1 + _ROUNDING)
        host_s += float(per_iteration_s.sum()) * replica.placement.pp
        launching_s += float(computing_s[bound].sum())
        busy_s += sum(stage.busy_s for stage in replica.stages)
    if busy_s <= 0:
        return None
    share = host_s / busy_s
    text = f"Scheduling, input preparation and sampling on the host took {share:.0%} of the stages' busy time."
    if launching_s / busy_s >= _LITTLE:
        text += (
            f" In {launching_s / busy_s:.0%} of it the GPU also waited for its kernels to be launched; "
            "simulator.predict shows for how long."
        )
    return Bottleneck("host overhead", share, text)
