"""Plot of a search: cost against each objective."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simulator.plot import PricedPoint, cost_against_latency, save, set_search_title
from simulator.search.outcomes import NEVER_S, Outcome, set_of
from simulator.search.report import fronts


def draw(outcomes: Sequence[Outcome], bounds: Mapping[str, float], search: Mapping[str, Any], path: Path) -> None:
    """Draw every simulated deployment, and the Pareto front, for each objective.

    Args:
        outcomes: Simulated deployments.
        bounds: Seconds by objective.
        search: Content of search.json.
        path: PNG file.
    """
    front_by_objective = fronts(outcomes, bounds)
    points = [
        PricedPoint(
            device=outcome.device,
            label=outcome.label,
            cost_per_hour_usd=outcome.cost_per_hour_usd,
            values={name: None if seconds >= NEVER_S else seconds for name, seconds in outcome.values.items()},
            met=outcome.met,
            fronts=[name for name in bounds if outcome in front_by_objective[name]],
        )
        for outcome in set_of(outcomes)
    ]
    figure = cost_against_latency(points, bounds)
    set_search_title(figure, search)
    save(figure, path)
