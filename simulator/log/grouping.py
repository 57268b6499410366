"""Rows of arrays by replica."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def rows_by_replica(replica: Ints) -> dict[int, Ints]:
    """Return the rows of each replica, in order.

    Args:
        replica: int64[n], replica of each row; negative numbers are replicas like others.

    Returns:
        int64 arrays, by the replicas that have rows.
    """
    order = np.argsort(replica, kind="stable")
    numbers, first = np.unique(replica[order], return_index=True)
    return {
        number: order[begin:end]
        for number, begin, end in zip(numbers.tolist(), first, [*first[1:], len(order)], strict=False)
    }
