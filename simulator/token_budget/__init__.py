"""Search for token budgets, by TBT SLO or by capacity.

The largest budget within the TBT SLO, and the one with the highest capacity.
"""
