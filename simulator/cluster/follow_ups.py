"""Requests that wait for the end of others: later turns of sessions, and sessions that wait for a free user."""

from collections import deque

import numpy as np

from traces import Trace

_NONE = -1


class FollowUps:
    """Knows what arrives after the end of a request.

    Attributes:
        num_broken_off: Turns that will never be sent, as one before them in their session was refused.
    """

    def __init__(self, trace: Trace) -> None:
        """Note who waits for whom.

        Args:
            trace: The requests; those without an arrival time wait.
        """
        waits = np.isnan(np.asarray(trace.arrival_s))
        session, turn = trace.turns()
        order = np.lexsort((turn, session))
        follows = (turn[order][1:] > 0) & waits[order][1:]
        after = np.full(len(trace), _NONE)
        after[order[:-1][follows]] = order[1:][follows]
        self._next_turn: list[int] = after.tolist()
        self._think_s: list[float] = [] if trace.think_s is None else trace.think_s.tolist()
        self._queue = deque(np.flatnonzero(waits & (turn == 0)).tolist())
        self.num_broken_off = 0

    def after(self, request: int, answered: bool) -> tuple[int, float] | None:
        """Return the request that arrives because another has ended, and how many seconds later; None: none.

        Args:
            request: The one that has ended.
            answered: Whether it was; a refused one ends its session.
        """
        following = self._next_turn[request]
        if following != _NONE and not answered:
            while following != _NONE:
                self.num_broken_off += 1
                following = self._next_turn[following]
        if following == _NONE:
            if not self._queue:
                return None
            following = self._queue.popleft()
        return following, self._think_s[following]
