"""Plot of a search: cost against each objective."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simulator.plot import cost_against_latency, save, set_search_title
from simulator.search.outcomes import Outcome, set_of
from simulator.search.report import priced


def draw(outcomes: Sequence[Outcome], bounds: Mapping[str, float], search: Mapping[str, Any], path: Path) -> None:
    """Draw every simulated deployment, and the Pareto front, for each objective.

    Args:
        outcomes: Simulated deployments.
        bounds: Seconds by objective.
        search: Content of search.json.
        path: PNG file.
    """
    figure = cost_against_latency(list(priced(set_of(outcomes), outcomes, bounds)), bounds)
    set_search_title(figure, search)
    save(figure, path)
