"""The token budget of the highest capacity."""

from collections.abc import Callable


def best_budget(capacity: Callable[[int], float], tile: int, max_tokens: int) -> dict[int, float]:
    """Search for the budget of the highest capacity among the multiples of a tile.

    First over octaves, then around the best one in steps that halve. Capacity rises with the budget while
    iterations get more efficient and falls where they break the TBT bound; beyond, where few iterations are
    long, it may rise again. Of equal capacities the smaller budget is better.

    Args:
        capacity: Requests per second by budget.
        tile: Budgets are multiples of it.
        max_tokens: Largest budget.

    Returns:
        The capacity of every budget that was tried, in the order of the budgets.
    """
    found: dict[int, float] = {}

    def best() -> int:
        return max(sorted(found), key=lambda budget: found[budget])

    budget = tile
    while budget <= max_tokens:
        found[budget] = capacity(budget)
        budget *= 2
    if not found:
        return found
    step = best() // 2 // tile * tile
    while step >= tile:
        centre = best()
        for budget in (centre - step, centre + step):
            if tile <= budget <= max_tokens and budget not in found:
                found[budget] = capacity(budget)
        step = step // 2 // tile * tile
    return dict(sorted(found.items()))
