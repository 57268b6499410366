"""Search for the token budget with the highest capacity."""

from collections.abc import Callable


def best_budget(capacity: Callable[[int], float], tile: int, max_tokens: int) -> dict[int, float]:
    """Search the multiples of a tile for the highest capacity.

    Tries powers of two, then steps around the best one that halve. Capacity rises with the budget while iterations
    get more efficient, and falls once they violate the TBT bound; beyond that, where long iterations are few, it may
    rise again. At equal capacity the smaller budget wins.

    Args:
        capacity: Requests per second by budget.
        tile: Budgets are multiples of this many tokens.
        max_tokens: Largest budget, tokens.

    Returns:
        Capacity of every budget that was tried, in increasing order of the budgets.
    """
    capacities: dict[int, float] = {}

    def best() -> int:
        return max(sorted(capacities), key=lambda budget: capacities[budget])

    budget = tile
    while budget <= max_tokens:
        capacities[budget] = capacity(budget)
        budget *= 2
    if not capacities:
        return capacities
    step = best() // 2 // tile * tile
    while step >= tile:
        centre = best()
        for budget in (centre - step, centre + step):
            if tile <= budget <= max_tokens and budget not in capacities:
                capacities[budget] = capacity(budget)
        step = step // 2 // tile * tile
    return dict(sorted(capacities.items()))
