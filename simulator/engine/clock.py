"""Simulated time: a SimPy environment that wakes processes at absolute times."""

import math
from collections.abc import Callable
from heapq import heappush
from typing import Any

import simpy
from simpy.events import Event

# Order of events at the same instant, lowest first. Requests that arrive at time t are seen by the
# iteration that starts at t; SimPy's own events (priority 0 and 1) precede the completions.
# A fault at time t affects whatever ends or arrives at t.
FAULT = -1
ARRIVAL = 0
LAST_STAGE_COMPLETION = 2
FIRST_STAGE_COMPLETION = 3
AFTER_ARRIVALS = 4


class Clock(simpy.Environment):
    """Simulated time in seconds.

    SimPy's timeouts are relative: `now + (t - now)` can miss t by a rounding error, which puts simultaneous
    events in the wrong order. This clock takes absolute times, and the order of simultaneous events is
    explicit.
    """

    def wake_at(self, time_s: float, priority: int) -> Event | None:
        """Return an event that resumes the calling process at `time_s`.

        Args:
            time_s: When to resume, not before now.
            priority: Order among the events of the same instant.

        Returns:
            An event to yield; None if no other event is due by `time_s`. The clock then already shows
            `time_s`: the event queue would return this event next.
        """
        queue = self._queue
        if not queue or time_s < queue[0][0]:
            self._now = time_s
            return None
        return self._trigger(Event(self), time_s, priority)

    @property
    def num_due(self) -> int:
        """Events in the queue."""
        return len(self._queue)

    def next_due_s(self) -> float:
        """Return when the next event is due; infinity if there is none."""
        queue: list[Any] = self._queue
        return queue[0][0] if queue else math.inf

    def call_at(self, time_s: float, callback: Callable[[Event], None], priority: int) -> Event:
        """Call a function at `time_s`, after all events with a lower priority.

        `time_s` is not before now.

        Returns:
            The event that it is called with.
        """
        event = Event(self)
        event.callbacks.append(callback)
        return self._trigger(event, time_s, priority)

    def skip_to(self, time_s: float) -> None:
        """Set the time; no event is due before it."""
        self._now = time_s

    def _trigger(self, event: Event, time_s: float, priority: int) -> Event:
        event._ok = True
        event._value = None
        queue: list[Any] = self._queue
        heappush(queue, (time_s, priority, next(self._eid), event))
        return event
