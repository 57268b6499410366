"""Axis labels of latencies, with their units."""

from simulator.results import GOODPUT, LATENCIES

# Gaps between tokens are milliseconds in the field; other latencies are seconds.
_MILLISECONDS = ("tbt_s", "tpot_s")


def axis_of(metric: str) -> tuple[str, float]:
    """Return the axis label of a latency, and its unit in seconds.

    Args:
        metric: Key of `LATENCIES`.
    """
    unit, unit_s = ("ms", 1e-3) if metric in _MILLISECONDS else ("s", 1.0)
    words = {"e2e_s": "end-to-end latency"}.get(metric, LATENCIES[metric])
    return f"{words}, {unit}", unit_s


def objective_axis(objective: str) -> tuple[str, float]:
    """Return axis label and unit of an objective: seconds, or a share.

    Args:
        objective: Its name, such as "tbt_p99", "chat.tbt_p99" or "goodput".
    """
    client, _, own = objective.rpartition(".")
    if own == GOODPUT:
        return f"{client} goodput, %".lstrip(), 0.01
    metric, _, statistic = own.rpartition("_")
    label, unit_s = axis_of(f"{metric}_s")
    return f"{client} {statistic_label(statistic)} {label}".lstrip(), unit_s


def statistic_label(statistic: str) -> str:
    """Return the words for a statistic, such as "P99" for "p99"."""
    return {"p50": "median", "max": "longest"}.get(statistic, statistic.upper() if statistic[0] == "p" else statistic)
