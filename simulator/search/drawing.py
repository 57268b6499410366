"""Picture of a search: cost against each objective."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from simulator.plot import PricedPoint, cost_against_latency, save
from simulator.search.outcomes import NEVER_S, Outcome, set_of
from simulator.search.report import fronts


def draw(outcomes: Sequence[Outcome], bounds: Mapping[str, float], path: Path) -> None:
    """Draw every deployment that was tried, and the front, for each objective.

    Args:
        outcomes: What was tried.
        bounds: Seconds by objective.
        path: PNG file.
    """
    on = fronts(outcomes, bounds)
    points = [
        PricedPoint(
            device=one.device,
            label=one.label,
            cost_per_hour_usd=one.cost_per_hour_usd,
            values={name: None if seconds >= NEVER_S else seconds for name, seconds in one.values.items()},
            met=one.met,
            fronts=[name for name in bounds if one in on[name]],
        )
        for one in set_of(outcomes)
    ]
    save(cost_against_latency(points, bounds), path)
