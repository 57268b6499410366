"""What limited a run, in plain words, from exact sums over its requests and iterations."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.results.formatting import duration
from simulator.results.latency import gap_spans, percentile_of, rank
from simulator.results.over_time import queue_length
from simulator.results.replica import ReplicaResult
from simulator.results.result import Result

# From which share on something counts as a limit, and as a strong one.
SOME, STRONG = 0.05, 0.2
_SATURATED = 0.9
_LITTLE = 0.01
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Finding:
    """Something that may have limited a run.

    Attributes:
        name: "queueing", "KV memory", "prefill interference", "pipeline bubbles" or "host overhead".
        share: How much of the time in question it took, 0 to 1; what that time is, `text` says.
        text: One or two sentences with the figures.
    """

    name: str
    share: float
    text: str

    @property
    def level(self) -> str:
        """How much it limits: strong, some or none."""
        return "strong" if self.share >= STRONG else "some" if self.share >= SOME else "none"


def limits(result: Result) -> list[Finding]:
    """Return what may have limited a run, the largest share first; what cannot be told of it is left out."""
    found = [_queueing(result), _memory(result), _interference(result), _bubbles(result), _host(result)]
    return sorted((one for one in found if one is not None), key=lambda one: -one.share)


def utilisation(result: Result) -> str:
    """Say in a sentence or two how busy the GPUs were."""
    stages = [stage for replica in result.summary["replicas"] for stage in replica["stages"] or []]
    if not stages:
        return "The run took no time."
    busy, no_work = (float(np.mean([stage[name] for stage in stages])) for name in ("busy", "no_work"))
    text = f"Stages were busy in {busy:.0%} of the time and had nothing to do in {no_work:.0%}."
    waits_for_ever = result.num_by_status["num_stuck"] or result.num_by_status["num_unfinished"]
    if busy >= _SATURATED:
        more = "they carried less than arrived" if result.overloaded else "yet larger batches may take little longer"
        text += f" That is nearly always; {more}."
    elif no_work >= STRONG and not waits_for_ever and not result.overloaded:
        text += " Fewer requests arrived than could be served."
    return text


def _queueing(result: Result) -> Finding | None:
    table = result.requests
    started = result.counted & ~np.isnan(table["first_token_s"])
    delay = result.latencies["scheduling_delay_s"]
    mean_s = delay.statistic("mean")
    if mean_s is None:
        return None
    text = f"Requests waited {duration(mean_s)} in the mean, P99 {duration(delay.statistic('p99'))}, to be scheduled"
    ttft_s = float((table["first_token_s"] - table["arrival_s"])[started].sum())
    share = 1.0
    if ttft_s > 0:
        waited_s = float((table["first_scheduled_s"] - table["arrival_s"])[started].sum())
        share = waited_s / ttft_s
        text += f": {share:.0%} of the time to first token of those that got one"
    text += "."
    if result.overloaded:
        text += " The queue was still growing when the last request arrived: the run is overloaded."
    num_stuck = result.num_by_status["num_stuck"]
    if num_stuck:
        text += f" {num_stuck:,} requests wait for ever."
    return Finding("queueing", share, text)


def _memory(result: Result) -> Finding | None:
    blocked = [_blocked_s(result, number) for number in range(len(result.replicas))]
    waiting_s, memory_s = (sum(one[place] for one in blocked) for place in (0, 1))
    span_s = len(result.replicas) * (result.end_s - float(np.nanmin(result.requests["arrival_s"])))
    use = result.summary["kv_use"]
    if span_s <= 0 or use["mean"] is None:
        return None
    waiting, share = waiting_s / span_s, memory_s / span_s
    text = f"{use['mean']:.0%} of the KV blocks were held in the mean, {use['max']:.0%} at most. "
    if waiting < _LITTLE:
        text += "Requests hardly ever waited."
    else:
        text += f"Requests waited in {waiting:.0%} of the time; in {share:.0%} too few blocks were free for the next "
        text += "one, else the iteration under way or the policy's limits on tokens and sequences held it up."
    num_preemptions = sum(replica.num_preemptions for replica in result.replicas)
    if num_preemptions:
        num_preempted = int(np.count_nonzero(result.requests["num_preemptions"]))
        text += f" {num_preemptions:,} preemptions made {num_preempted:,} requests compute their tokens again."
    return Finding("KV memory", share, text)


def _blocked_s(result: Result, number: int) -> tuple[float, float]:
    """Seconds with requests waiting, and those of them in which too few blocks were free for the next one admitted."""
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
    # A decision that leaves requests waiting although the next one admitted has too few blocks.
    place = np.searchsorted(queue.time_s, scheduled_s, side="right") - 1
    left_waiting = (place >= 0) & (queue.value[np.maximum(place, 0)] > 0)
    last_s = replica.logged.end_s.max()
    decided_s = np.append(scheduled_s[1:], last_s) - scheduled_s
    # The first admission by a later decision; those that are stuck at the end wait for blocks if nothing else.
    following = np.searchsorted(request_events.admissions[:, 1], np.arange(len(scheduled_s)), side="right")
    needed = np.append(request_events.blocks_needed, _blocks_of_the_rest(result, number))[following]
    memory_s = float(decided_s[left_waiting & (columns["free_blocks"] < needed)].sum())
    if replica.stuck_reason:
        # Those that wait when no iteration is formed any more.
        later_s = np.clip(np.append(queue.time_s, result.end_s), last_s, result.end_s)
        memory_s += float(np.diff(later_s)[queue.value > 0].sum())
    return waiting_s, memory_s


def _blocks_of_the_rest(result: Result, number: int) -> int:
    """KV blocks that a request which is never admitted needs: more than there are if it can never be."""
    replica = result.replicas[number]
    return replica.num_blocks + 1 if replica.stuck_reason else 0


def _interference(result: Result) -> Finding | None:
    """Compare gaps between tokens in which prompt tokens were computed with the others."""
    parts = [_gaps(replica, result.counted) for replica in result.replicas]
    gaps, weights, beside = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    total, with_prompts = int(weights.sum()), int(weights[beside].sum())
    if total == 0:
        return None
    if with_prompts in (0, total):
        share_text = "all" if with_prompts else "none"
        text = f"Prompt tokens were computed in {share_text} of the gaps between two tokens of a request."
        return Finding("prefill interference", 0.0, text)
    alone_s = float((gaps * weights)[~beside].sum() / (total - with_prompts))
    beside_s = float((gaps * weights)[beside].sum() / with_prompts)
    all_s = float((gaps * weights).sum())
    share = max(0.0, with_prompts * (beside_s - alone_s) / all_s)
    order = np.argsort(gaps, kind="stable")
    tail = order[np.searchsorted(np.cumsum(weights[order]), rank(percentile_of("p99"), total)) :]
    in_tail = weights[tail][beside[tail]].sum() / weights[tail].sum()
    text = (
        f"The next token took {duration(alone_s)} in the mean while no prompt was computed and "
        f"{duration(beside_s)} when one was ({with_prompts / total:.0%} of gaps, {in_tail:.0%} of the slowest 1%); "
        f"prompts make up {share:.0%} of the time between tokens."
    )
    return Finding("prefill interference", share, text)


def _gaps(
    replica: ReplicaResult, counted: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return gaps, how many requests waited so long, and whether prompt tokens were computed meanwhile."""
    spans = gap_spans(replica.tokens, counted)
    end_s = replica.logged.end_s
    prompts = np.append(0, np.cumsum(replica.logged.columns["num_prefill_tokens"]))
    beside = prompts[spans.last + 1] > prompts[spans.first + 1]
    return end_s[spans.last] - end_s[spans.first], spans.weight, beside


def _bubbles(result: Result) -> Finding | None:
    pipelines = [replica["stages"] for replica in result.summary["replicas"] if replica["pp"] > 1]
    stages = [stage for one in pipelines for stage in one or []]
    if not stages:
        return None
    causes = {name: float(np.mean([stage[name] for stage in stages])) for name in _BUBBLES}
    share = sum(causes.values())
    largest = max(causes, key=lambda name: causes[name])
    text = f"Stages of pipelines stood still for {share:.0%} of the time although there was work in the pipeline"
    if share > 0:
        text += f", most of it ({causes[largest]:.0%}) because of {_BUBBLES[largest]}"
    return Finding("pipeline bubbles", share, f"{text}.")


_BUBBLES = {
    "waiting_for_upstream": "batches that were still in the stages before",
    "waiting_for_downstream": "a full pipeline, so that no further batch could be formed",
    "uneven_micro_batches": "micro-batches of different length",
}


def _host(result: Result) -> Finding | None:
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
    text = f"Scheduling, preparing inputs and sampling on the host took {share:.0%} of the busy time of the stages."
    if launching_s / busy_s >= _LITTLE:
        text += (
            f" In {launching_s / busy_s:.0%} of it the GPU also waited for its kernels to be launched; by how much, "
        )
        text += "simulator.predict shows."
    return Finding("host overhead", share, text)
