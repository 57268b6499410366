"""Figures of each client class in a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from simulator.results.result import Result
from simulator.results.slo import SLO, Objective, objectives_of
from simulator.results.status import FINISHED
from simulator.results.warnings import Warning


def client_figures(result: Result) -> list[dict[str, Any]]:
    """Return the summary of each client class: counts, throughput, latencies and SLO."""
    makespan_s = result.throughput["makespan_s"]
    return [_figures(result.of_client(number), makespan_s) for number in range(len(result.clients))]


def client_warnings(clients: Sequence[Mapping[str, Any]]) -> list[Warning]:
    """Return a warning for each client class that misses its SLO.

    Args:
        clients: Result of `client_figures`.
    """
    warnings = []
    for client in clients:
        slo = client["slo"]
        if slo is None or slo["met"] is not False:
            continue
        missed = ", ".join(slo["missed"])
        text = f"clients.{client['client']} misses its SLO: {missed}"
        if slo["goodput"] == 0:
            text += "; none of its requests meets every bound"
        warnings.append(Warning("slo", text))
    return warnings


def _figures(own: Result, makespan_s: float | None) -> dict[str, Any]:
    """Return the figures of one client class.

    Throughput is per second of the whole run's makespan, as for replicas.
    """
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
        "slo": _slo(own, objectives) if (objectives := objectives_of([client])) else None,
    }


def _slo(own: Result, objectives: tuple[Objective, ...]) -> dict[str, Any]:
    slo = SLO(objectives)
    goodput, missed = slo.goodput(own), slo.missed(own)
    return {
        "objectives": [
            {
                "name": f"{objective.metric}_{objective.statistic}",
                "bound_s": objective.bound_s,
                "value_s": objective.value(own),
            }
            for objective in slo.objectives
        ],
        "met": not missed if own.counted.any() else None,
        "missed": [name.partition(".")[2] for name in missed],
        "goodput": goodput.share,
        "goodput_qps": goodput.requests_per_s,
    }
