"""Protocols of request sources and arrival processes."""

from dataclasses import Field
from typing import Any, ClassVar, Protocol

import numpy as np

from traces.trace import Trace


class Source(Protocol):
    """A source of requests: a dataclass with a field `num_requests`."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def load(self, rng: np.random.Generator) -> Trace:
        """Return the requests, without arrival times or with the recorded ones.

        Args:
            rng: Randomness of generators; readers ignore it.

        Raises:
            ValueError: The requests cannot be read.
        """
        ...


class Arrivals(Protocol):
    """An arrival process: a dataclass.

    If the process has a rate, its field is `qps`.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival times.

        Args:
            trace: The requests.
            rng: Randomness. The same state gives the same times and, where inter-arrival times do not depend on the
                clock, inter-arrival times that scale with 1 / rate.

        Raises:
            ValueError: The trace lacks what the process needs.
        """
        ...
