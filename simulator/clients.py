"""Figures of each class of clients in a run."""

from typing import Any

from simulator.result import FINISHED, Result
from simulator.slo import SLO, Objective, of_clients


def client_figures(result: Result) -> list[dict[str, Any]]:
    """Return what summary.json says of each class: counts, throughput, latencies and its SLO."""
    makespan_s = result.throughput["makespan_s"]
    return [_figures(result.of_client(number), makespan_s) for number in range(len(result.clients))]


def _figures(own: Result, makespan_s: float | None) -> dict[str, Any]:
    """Return the figures of a run about one class; throughput is over the makespan of all, as of a replica."""
    assert own.only_client is not None
    client = own.clients[own.only_client]
    counts = own.num_by_status
    finished = own.counted & (own.status == FINISHED)
    num_tokens = int(own.requests["output_tokens"][finished].sum())
    return {
        "client": client.name,
        "num_requests": sum(counts.values()),
        **counts,
        "requests_per_s": int(finished.sum()) / makespan_s if makespan_s else None,
        "output_tokens_per_s": num_tokens / makespan_s if makespan_s else None,
        **{name: latency.summary() for name, latency in own.latencies.items()},
        "slo": _slo(own, objectives) if (objectives := of_clients([client])) else None,
    }


def _slo(own: Result, objectives: tuple[Objective, ...]) -> dict[str, Any]:
    slo = SLO(objectives)
    goodput = slo.goodput(own)
    return {
        "objectives": [
            {"name": f"{one.metric}_{one.statistic}", "bound_s": one.bound_s, "value_s": one.value(own)}
            for one in slo.objectives
        ],
        "met": not slo.missed(own) if own.counted.any() else None,
        "goodput": goodput.share,
        "goodput_qps": goodput.requests_per_s,
    }
