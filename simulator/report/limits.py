"""What limited a run, in plain words, from exact sums over its requests and iterations."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.metrics import gap_spans, percentile_of, rank
from simulator.over_time import queue_length
from simulator.replica_result import ReplicaResult
from simulator.result import IGNORED, Result

# From which share on something counts as a limit, and as a strong one.
SOME, STRONG = 0.05, 0.2
_SATURATED = 0.9


@dataclass(frozen=True)
class Finding:
    """Something that may have limited a run.

    Attributes:
        name: "queueing", "KV memory", "prefill interference", "pipeline bubbles", "host overhead" or "idle GPUs".
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
    found = [_queueing(result), _memory(result), _interference(result), _bubbles(result), _host(result), _idle(result)]
    return sorted((one for one in found if one is not None), key=lambda one: -one.share)


def _queueing(result: Result) -> Finding | None:
    table = result.requests
    started = result.counted & ~np.isnan(table["first_token_s"])
    ttft_s = (table["first_token_s"] - table["arrival_s"])[started].sum()
    if not started.any() or ttft_s <= 0:
        return None
    waited_s = (table["first_scheduled_s"] - table["arrival_s"])[started]
    delay = result.latencies["scheduling_delay_s"]
    share = float(waited_s.sum() / ttft_s)
    mean, p99 = _seconds(float(waited_s.mean())), _seconds(delay.statistic("p99"))
    text = f"Requests waited {mean} in the mean, P99 {p99}, to be scheduled: {share:.0%} of the time to first token."
    if result.overloaded:
        text += " The queue was still growing when the last request arrived: the run is overloaded."
    return Finding("queueing", share, text)


def _memory(result: Result) -> Finding | None:
    blocked = [_blocked_s(result, number) for number in range(len(result.replicas))]
    waiting_s, memory_s = (sum(one[place] for one in blocked) for place in (0, 1))
    span_s = sum(float(replica.logged.end_s.max(initial=0.0)) for replica in result.replicas)
    if span_s <= 0:
        return None
    use = result.summary["kv_use"]
    share = memory_s / span_s
    text = f"{use['mean']:.0%} of the KV blocks were held in the mean, {use['max']:.0%} at most. "
    if waiting_s > 0:
        text += (
            f"Requests waited in {waiting_s / span_s:.0%} of the time; in {share:.0%} too few blocks were free for the "
        )
        text += "next one, in the rest the policy's limits or the iteration under way held it up."
    else:
        text += "No request ever waited for longer than an iteration."
    num_preemptions = sum(replica.num_preemptions for replica in result.replicas)
    if num_preemptions:
        num_preempted = int(np.count_nonzero(result.requests["num_preemptions"]))
        text += f" {num_preemptions:,} preemptions made {num_preempted:,} requests compute their tokens again."
    return Finding("KV memory", share, text)


def _blocked_s(result: Result, number: int) -> tuple[float, float]:
    """Seconds with requests waiting, and those of them in which too few blocks were free for the next one admitted."""
    replica = result.replicas[number]
    columns, history = replica.logged.columns, replica.history
    scheduled_s = columns["schedule_s"]
    if len(scheduled_s) == 0:
        return 0.0, 0.0
    queue = queue_length(result, [number])
    place = np.searchsorted(queue.time_s, scheduled_s, side="right") - 1
    waiting = (place >= 0) & (queue.value[np.maximum(place, 0)] > 0)
    until_s = np.append(scheduled_s[1:], replica.logged.end_s.max())
    length_s = until_s - scheduled_s
    # The first admission by a later decision; those that are stuck at the end wait for blocks if nothing else.
    following = np.searchsorted(history.admissions[:, 1], np.arange(len(scheduled_s)), side="right")
    needed = np.append(history.blocks_needed, _blocks_of_the_rest(result, number))[following]
    short = waiting & (columns["free_blocks"] < needed)
    return float(length_s[waiting].sum()), float(length_s[short].sum())


def _blocks_of_the_rest(result: Result, number: int) -> int:
    """KV blocks that a request which is never admitted needs: more than there are if it can never be."""
    replica = result.replicas[number]
    return replica.num_blocks + 1 if replica.obstacle else 0


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
    alone_s = float(np.dot(gaps[~beside], weights[~beside]) / (total - with_prompts))
    beside_s = float(np.dot(gaps[beside], weights[beside]) / with_prompts)
    all_s = float(np.dot(gaps, weights))
    share = max(0.0, with_prompts * (beside_s - alone_s) / all_s)
    order = np.argsort(gaps, kind="stable")
    tail = order[np.searchsorted(np.cumsum(weights[order]), rank(percentile_of("p99"), total)) :]
    in_tail = weights[tail][beside[tail]].sum() / weights[tail].sum()
    text = (
        f"The next token took {_seconds(alone_s)} in the mean while no prompt was computed and "
        f"{_seconds(beside_s)} when one was ({with_prompts / total:.0%} of gaps, {in_tail:.0%} of the slowest 1 %); "
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
    bubbles = result.summary["bubbles"]
    if max(replica.placement.pp for replica in result.replicas) == 1 or bubbles["no_work"] is None:
        return None
    causes = {name: float(np.mean(shares)) for name, shares in bubbles.items() if name != "no_work"}
    share = sum(causes.values())
    largest = max(causes, key=lambda name: causes[name])
    text = f"Stages stood still for {share:.0%} of the time although there was work in the pipeline"
    if share > 0:
        text += f", most of it ({causes[largest]:.0%}) because of {_BUBBLES[largest]}"
    return Finding("pipeline bubbles", share, f"{text}.")


_BUBBLES = {
    "waiting_for_upstream": "batches that were still in the stages before",
    "waiting_for_downstream": "a full pipeline, so that no further batch could be formed",
    "uneven_micro_batches": "micro-batches of different length",
}


def _host(result: Result) -> Finding | None:
    host_s = busy_s = 0.0
    for replica in result.replicas:
        if replica.provenance is None or replica.provenance.host is None:
            return None
        base_s, per_seq_s = replica.provenance.host
        columns = replica.logged.columns
        sequences = int((columns["num_prefills"] + columns["num_decodes"]).sum())
        host_s += replica.placement.pp * (base_s * len(replica.logged.end_s) + per_seq_s * sequences)
        busy_s += sum(stage.busy_s for stage in replica.stages)
    if busy_s <= 0:
        return None
    share = host_s / busy_s
    text = (
        f"The host - scheduling, preparing inputs, sampling - took {share:.0%} of the time in which stages were busy."
    )
    return Finding("host overhead", share, text)


def _idle(result: Result) -> Finding | None:
    no_work = result.summary["bubbles"]["no_work"]
    if no_work is None:
        return None
    share, busy = float(np.mean(no_work)), float(np.mean(result.summary["busy_fraction"]))
    ignored = int(np.count_nonzero(result.status == IGNORED))
    text = f"There was nothing to do in {share:.0%} of the time, and stages were busy in {busy:.0%}."
    if share >= SOME:
        text += " Fewer requests arrived than could be served."
    elif busy >= _SATURATED:
        text += " The GPUs themselves were the limit."
    if ignored:
        text += f" {ignored:,} requests were refused as too long."
    return Finding("idle GPUs", share, text)


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"
