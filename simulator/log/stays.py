"""Stays of requests at replicas."""

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

    def __init__(self, arrived_s: Sequence[float]) -> None:
        """Start without stays.

        Args:
            arrived_s: When each request arrived at its present replica, seconds; the gateway keeps it.
        """
        self._arrived_s = arrived_s
        self._replica = [NO_REPLICA] * len(arrived_s)
        self._number = [0] * len(arrived_s)  # of the latest stay of each request
        self._num_begun = 0
        self._ended: list[float] = []

    def begin(self, request: int, replica: int) -> None:
        """Note that a request is sent to a replica."""
        self._replica[request] = replica
        self._number[request] = self._num_begun
        self._num_begun += 1

    def end(self, requests: Sequence[int], now_s: float, why: StayEnd, was_running: bool) -> None:
        """Note that requests leave their replicas."""
        numbers, replicas, arrived_s = self._number, self._replica, self._arrived_s
        for request in requests:
            row = numbers[request], request, replicas[request], arrived_s[request], now_s, why, was_running
            self._ended += row
            replicas[request] = NO_REPLICA

    def stays(self) -> Stays:
        """Return the stays as arrays."""
        rows = [*self._ended]
        for request, replica in enumerate(self._replica):
            if replica != NO_REPLICA:
                number, arrived_s = self._number[request], self._arrived_s[request]
                rows += (number, request, replica, arrived_s, np.nan, StayEnd.STILL_THERE, False)
        table = np.array(rows, dtype=np.float64).reshape(-1, 7)
        _, of_request, at_replica, began_s, left_s, why, was_running = table[np.argsort(table[:, 0])].T.copy()
        return Stays(
            of_request.astype(np.int64),
            at_replica.astype(np.int64),
            began_s,
            left_s,
            why.astype(np.int64),
            was_running > 0,
        )
