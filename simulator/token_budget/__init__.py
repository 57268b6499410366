"""The token budget of Sarathi: the largest within the TBT SLO, and the one of the highest capacity."""

from simulator.token_budget.curve import Curve, IterationLoad, largest_budget, measure
from simulator.token_budget.maximize import best_budget

__all__ = ["Curve", "IterationLoad", "best_budget", "largest_budget", "measure"]
