"""Figures of each client class in a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from simulator.results.result import Result
from simulator.results.slo import SLO
from simulator.results.throughput import Throughput
from traces.shared.warnings import Warning


def client_figures(result: Result) -> list[dict[str, Any]]:
    """Return the summary of each client class: counts, throughput, latencies and SLO."""
    return [_figures(result.of_client(number), result.throughput) for number in range(len(result.clients))]


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
            text += "; none of its requests meets every bound on its own"
        warnings.append(Warning("slo", text))
    return warnings


def _figures(own: Result, throughput: Throughput) -> dict[str, Any]:
    """Return the figures of one client class.

    Throughput is per second of the whole run's makespan, as for replicas.
    """
    assert own.only_client is not None
    client = own.clients[own.only_client]
    slo = SLO.of(client.slo)
    counts = own.num_by_status
    return {
        "client": client.name,
        "num_requests": sum(counts.values()),
        **counts,
        **throughput.of(own.counted),
        **{name: latency.summary() for name, latency in own.latencies.items()},
        "slo": slo.figures(own, throughput.makespan_s) if slo else None,
    }
