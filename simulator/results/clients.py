"""Figures of each class of clients in a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from simulator.results.result import Result
from simulator.results.slo import SLO, Objective, of_clients
from simulator.results.status import FINISHED


def client_figures(result: Result) -> list[dict[str, Any]]:
    """Return what summary.json says of each class: counts, throughput, latencies and its SLO."""
    makespan_s = result.throughput["makespan_s"]
    return [_figures(result.of_client(number), makespan_s) for number in range(len(result.clients))]


def client_warnings(clients: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which classes miss what they expect, from their figures."""
    found = []
    for one in clients:
        slo = one["slo"]
        if slo is None or slo["met"] is not False:
            continue
        missed = ", ".join(slo["missed"])
        found.append(f"clients.{one['client']} misses its SLO: {missed}")
        if slo["goodput"] == 0:
            found[-1] += "; not one of its requests is within every bound"
    return found


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
    goodput, missed = slo.goodput(own), slo.missed(own)
    return {
        "objectives": [
            {"name": f"{one.metric}_{one.statistic}", "bound_s": one.bound_s, "value_s": one.value(own)}
            for one in slo.objectives
        ],
        "met": not missed if own.counted.any() else None,
        "missed": [name.partition(".")[2] for name in missed],
        "goodput": goodput.share,
        "goodput_qps": goodput.requests_per_s,
    }
