"""Search for the cheapest deployment within an SLO."""

from simulator.search.bounds import Load, fewest_replicas, ruled_out
from simulator.search.outcomes import Outcome, pareto
from simulator.search.space import Option, options

__all__ = [
    "Load",
    "Option",
    "Outcome",
    "fewest_replicas",
    "options",
    "pareto",
    "ruled_out",
]
