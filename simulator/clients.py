"""Figures of each class of clients in a run."""

from typing import Any

from simulator.result import Result
from simulator.slo import SLO, Objective, of_clients


def client_figures(result: Result) -> list[dict[str, Any]]:
    """Return what summary.json says of each class: counts, throughput, latencies and its SLO."""
    return [_figures(result.of_client(number)) for number in range(len(result.clients))]


def _figures(own: Result) -> dict[str, Any]:
    """Return the figures of a run about one class."""
    assert own.only_client is not None
    client = own.clients[own.only_client]
    counts = own.num_by_status
    return {
        "client": client.name,
        "num_requests": sum(counts.values()),
        **counts,
        **own.throughput,
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
        "met": not slo.missed(own),
        "goodput": goodput.share,
        "goodput_qps": goodput.requests_per_s,
    }
