"""Stays of requests at replicas."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.log.flat_arrays import doubled, zeros

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

    @property
    def have_moves(self) -> bool:
        """Whether any request stayed at a replica more than once."""
        return bool(len(self.request) and np.bincount(self.request).max() > 1)

    @cached_property
    def is_retry(self) -> NDArray[np.bool_]:
        """Whether the previous stay of the request ended in a failure: bool[n]."""
        order = np.argsort(self.request, kind="stable")
        before, after = order[:-1], order[1:]
        is_retry = np.zeros(len(order), dtype=bool)
        is_retry[after] = (self.request[before] == self.request[after]) & (self.why[before] == StayEnd.FAILED)
        return is_retry


# Logged columns of each stay, see `Stays`.
_WIDTH = 6


class StayLog:
    """The stays so far."""

    def __init__(self, num_requests: int) -> None:
        """Start without stays."""
        self._latest = array("q", [0]) * num_requests  # stay of each request
        self._num_stays = 0
        # Flat, and longer than its contents.
        self._rows = zeros(_WIDTH * max(1, num_requests))

    def begin(self, request: int, replica: int, now_s: float) -> None:
        """Note that a request is sent to a replica."""
        first = self._num_stays * _WIDTH
        if first == len(self._rows):
            self._rows = doubled(self._rows)
        rows = self._rows
        rows[first] = request
        rows[first + 1] = replica
        rows[first + 2] = now_s
        rows[first + 3] = math.nan
        rows[first + 4] = 0.0  # StayEnd.STILL_THERE
        rows[first + 5] = 0.0
        self._latest[request] = self._num_stays
        self._num_stays += 1

    def end(self, requests: Sequence[int], now_s: float, why: int, was_running: bool) -> None:
        """Note that requests leave their replicas."""
        rows, latest = self._rows, self._latest
        for request in requests:
            first = latest[request] * _WIDTH
            rows[first + 3] = now_s
            rows[first + 4] = why
            rows[first + 5] = was_running

    def stays(self) -> Stays:
        """Return the stays as arrays."""
        table = np.asarray(self._rows)[: self._num_stays * _WIDTH].reshape(-1, _WIDTH)
        of_request, at_replica, began_s, left_s, why, was_running = table.T
        return Stays(
            of_request.astype(np.int64),
            at_replica.astype(np.int64),
            began_s.copy(),
            left_s.copy(),
            why.astype(np.int64),
            was_running > 0,
        )
