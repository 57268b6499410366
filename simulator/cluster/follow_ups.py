"""Follow-ups: later turns of sessions, and sessions waiting for a free user."""

from collections import deque

import numpy as np

from traces import Trace

_NONE = -1


class FollowUps:
    """Requests that arrive when others end.

    Attributes:
        num_broken_off: Turns that are never sent because an earlier turn of their session was refused or lost.
    """

    def __init__(self, trace: Trace) -> None:
        """Find which request each follow-up waits for.

        Args:
            trace: Requests of the run; those without an arrival time are follow-ups.
        """
        is_follow_up = np.isnan(np.asarray(trace.arrival_s))
        session, turn = trace.turns()
        order = np.lexsort((turn, session))
        has_previous = (turn[order][1:] > 0) & is_follow_up[order][1:]
        next_turn = np.full(len(trace), _NONE)
        next_turn[order[:-1][has_previous]] = order[1:][has_previous]
        self._next_turn: list[int] = next_turn.tolist()
        self._think_s: list[float] = [] if trace.think_s is None else trace.think_s.tolist()
        self._queue = deque(np.flatnonzero(is_follow_up & (turn == 0)).tolist())
        self.num_broken_off = 0

    def pop(self, request: int, answered: bool) -> tuple[int, float] | None:
        """Return the follow-up of an ended request and its think time.

        The think time is in seconds. Returns None if there is no follow-up.

        Args:
            request: Request that has ended.
            answered: Whether it emitted its last token; a refused or lost request ends its session.
        """
        follow_up = self._next_turn[request]
        if follow_up != _NONE and not answered:
            while follow_up != _NONE:
                self.num_broken_off += 1
                follow_up = self._next_turn[follow_up]
        if follow_up == _NONE:
            if not self._queue:
                return None
            follow_up = self._queue.popleft()
        return follow_up, self._think_s[follow_up]
