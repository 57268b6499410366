"""What sources of requests and arrival processes have in common."""

from dataclasses import Field
from typing import Any, ClassVar, Protocol

import numpy as np

from traces.trace import Trace


class Source(Protocol):
    """Where requests come from: a dataclass, whose field `num_requests` says how many."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def load(self, rng: np.random.Generator) -> Trace:
        """Return the requests, without arrival times or with those that were recorded.

        Args:
            rng: Randomness of generators; readers do not use it.

        Raises:
            ValueError: They cannot be read.
        """
        ...


class Arrivals(Protocol):
    """How requests arrive: a dataclass, whose field `qps` is its rate if it has one."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival times.

        Args:
            trace: The requests.
            rng: Randomness. The same gives the same times and, where gaps do not depend on the time, gaps that are in
                proportion to the rate.

        Raises:
            ValueError: The trace has not what they need.
        """
        ...
