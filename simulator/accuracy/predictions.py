"""Simulates measured points."""

from collections.abc import Mapping
from dataclasses import dataclass

from simulator.accuracy.points import Point
from simulator.config import load_config
from simulator.simulation import simulate


@dataclass(frozen=True)
class Comparison:
    """A measured point and its simulation.

    Attributes:
        point: The point.
        predicted: Simulated seconds by metric and statistic, keys of `point.measured`.
        overloaded: Whether the simulation was overloaded.
    """

    point: Point
    predicted: Mapping[str, float]
    overloaded: bool

    def error(self, metric: str) -> float:
        """Return the relative error of a metric; above 0: predicted too long."""
        return self.predicted[metric] / self.point.measured[metric] - 1


def compare(point: Point) -> Comparison:
    """Simulate a point.

    Raises:
        ValueError: Its configuration cannot be simulated, or no request of the simulation has a measured latency.
    """
    result = simulate(**load_config(*point.overrides))
    summary = result.summary
    predicted = {}
    for metric in point.measured:
        name, _, statistic = metric.partition(".")
        seconds = summary[name][statistic]
        if seconds is None:
            reason = "; ".join(summary["warnings"]) or "requests have one output token"
            raise ValueError(f"{point.dataset}, {point.load}: the simulation has no {metric}; {reason}")
        predicted[metric] = float(seconds)
    return Comparison(point, predicted, result.overloaded)
