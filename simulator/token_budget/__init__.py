"""Search for token budgets, by TBT SLO or by capacity.

The largest budget within the TBT SLO, and the one with the highest capacity.
"""

from simulator.token_budget.curve import IterationLoad, largest_budget, measure
from simulator.token_budget.maximize import best_budget

__all__ = ["IterationLoad", "best_budget", "largest_budget", "measure"]
