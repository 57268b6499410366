"""Stays of requests at replicas."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_REPLICA = -1


class StayEnd(IntEnum):
    """Why a request left a replica."""

    STILL_THERE = 0
    FINISHED = 1
    REFUSED = 2
    FAILED = 3
    TRANSFERRED = 4
    DRAINED = 5


@dataclass(frozen=True)
class Stays:
    """Stays of requests at replicas, in the order in which they began.

    Stays of one request do not overlap. Between them, and before the first one, the request is at the gateway.

    Attributes:
        request: int64[n].
        replica: int64[n].
        arrived_s: float64[n], when the gateway sent the request to the replica, seconds.
        left_s: float64[n], when it left, seconds; NaN: still there when the simulation ended.
        why: int64[n], why it left, as in `StayEnd`.
        was_running: bool[n], whether it left while running; False: while waiting, or it is still there.
    """

    request: NDArray[np.int64]
    replica: NDArray[np.int64]
    arrived_s: NDArray[np.float64]
    left_s: NDArray[np.float64]
    why: NDArray[np.int64]
    was_running: NDArray[np.bool_]

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """Columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def at(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Stays":
        """Return some of the stays.

        Args:
            rows: bool[n], or int64[m] in the wanted order.
        """
        return Stays(**{name: column[rows] for name, column in self.columns.items()})

    @cached_property
    def is_retry(self) -> NDArray[np.bool_]:
        """Whether the previous stay of the request ended in a failure: bool[n]."""
        order = np.argsort(self.request, kind="stable")
        before, after = order[:-1], order[1:]
        is_retry = np.zeros(len(order), dtype=bool)
        is_retry[after] = (self.request[before] == self.request[after]) & (self.why[before] == StayEnd.FAILED)
        return is_retry


class StayLog:
    """The stays so far."""

    def __init__(self) -> None:
        """Start without stays."""
        self._begins = array("d")
        self._ends = array("d")
        # Stay of each request that is at a replica.
        self._current: dict[int, int] = {}

    def begin(self, request: int, replica: int, now_s: float) -> None:
        """Note that a request is sent to a replica."""
        self._current[request] = len(self._begins) // 3
        self._begins.extend((request, replica, now_s))

    def end(self, requests: Sequence[int], now_s: float, why: StayEnd, was_running: bool) -> None:
        """Note that requests leave their replicas."""
        current = self._current
        for request in requests:
            self._ends.extend((current.pop(request), now_s, why, was_running))

    def stays(self) -> Stays:
        """Return the stays as arrays."""
        request, replica, arrived_s = np.array(self._begins).reshape(-1, 3).T
        ends, ended = np.array(self._ends).reshape(-1, 4), np.full((len(request), 3), (np.nan, StayEnd.STILL_THERE, 0))
        ended[ends[:, 0].astype(np.int64)] = ends[:, 1:]
        left_s, why, was_running = ended.T.copy()
        return Stays(
            request.astype(np.int64),
            replica.astype(np.int64),
            arrived_s.copy(),
            left_s,
            why.astype(np.int64),
            was_running > 0,
        )
