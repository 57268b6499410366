"""Overload: whether requests arrived faster than they were served."""

import numpy as np
from numpy.typing import NDArray

from simulator.log import rows_by_replica
from simulator.results.tokens import Floats

# Shorter queues say nothing.
MIN_BACKLOG = 10
# A queue has emptied when it falls to this share of its length at the last arrival.
EMPTY_SHARE = 0.05
# Share of the arrivals since the queue emptied, and of the longest queue that is left at the last arrival.
MIN_SINCE_EMPTY, MIN_OF_LONGEST = 0.25, 0.5


def backlog(arrival_s: Floats, first_scheduled_s: Floats, replica: NDArray[np.int64]) -> int:
    """Return how many requests wait at the last arrival, if overloaded.

    A run that is not overloaded gives 0.

    Below saturation, the queue of a replica empties again and again. A queue that has not emptied for a quarter of
    the arrivals, and is not being worked off, has built up. The run is overloaded if such queues hold at least
    `MIN_BACKLOG` requests and the square root of the number of arrivals: what the fluctuation of Poisson arrivals
    leaves at saturation.

    Args:
        arrival_s: float64[n].
        first_scheduled_s: float64[n], NaN for a request that was never scheduled.
        replica: int64[n], that served each request; negative: none.

    Source: Asmussen, Applied Probability and Queues, 2003, chapter X (random walk reflected at 0).
    """
    if len(arrival_s) == 0 or arrival_s.min() == arrival_s.max():
        return 0
    scheduled_s = np.where(np.isnan(first_scheduled_s), np.inf, first_scheduled_s)
    total = 0
    for own in rows_by_replica(replica).values():
        total += _built_up(np.sort(arrival_s[own]), np.sort(scheduled_s[own]), float(arrival_s.max()))
    return total if total >= max(MIN_BACKLOG, np.sqrt(len(arrival_s))) else 0


def _built_up(arrival_s: Floats, scheduled_s: Floats, last_s: float) -> int:
    """Return how much a replica's queue has built up, or 0.

    Requests that arrived at the very beginning, such as the users of a closed loop, are left out.

    Args:
        arrival_s: float64[n], sorted.
        scheduled_s: float64[n], sorted; inf: never.
        last_s: The last arrival.
    """
    times_s = np.append(np.unique(scheduled_s[scheduled_s <= last_s]), last_s)
    waiting = np.searchsorted(arrival_s, times_s, "right") - np.searchsorted(scheduled_s, times_s, "right")
    at_last = int(waiting[-1])
    emptied = np.flatnonzero(waiting <= EMPTY_SHARE * at_last)
    since_s = times_s[emptied[-1]] if len(emptied) else -np.inf
    num_since = np.count_nonzero(arrival_s > since_s)
    is_built_up = (
        num_since >= MIN_SINCE_EMPTY * len(arrival_s) and at_last >= MIN_OF_LONGEST * waiting[times_s >= since_s].max()
    )
    at_first = int(np.count_nonzero(arrival_s == arrival_s[0])) - 1
    return max(at_last - at_first, 0) if is_built_up else 0
