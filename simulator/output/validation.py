"""Range checks of a run that was read from its file."""

import numpy as np
from numpy.typing import NDArray

from simulator.results import STATUS_NAMES, Result


def validate_result(result: Result) -> None:
    """Check what would give wrong figures without an error.

    The checksums of the file hold, so that only a file made by hand can fail.

    Raises:
        ValueError: A check fails; the message says which.
    """
    num_requests = len(result.status)
    _require_within("status", result.status, len(STATUS_NAMES) - 1)
    _require_within("stays: request", result.stays.request, num_requests - 1)
    _require_within("stays: replica", result.stays.replica, len(result.replicas) - 1)
    for replica in result.replicas:
        end_s, request_events = replica.logged.end_s, replica.request_events
        if not (np.diff(end_s, prepend=0.0, append=result.end_s) >= 0).all():  # nor with NaN
            raise ValueError("the ends of its iterations are not in order")
        _require_within("free_blocks", replica.logged.free_blocks, replica.num_blocks)
        for name in ("admissions", "prefill_ends", "finishes", "preemptions", "decode_spans"):
            request, *others = getattr(request_events, name).T
            _require_within(name, request, num_requests - 1)  # a negative index would count from the end
            _require_within(name, np.concatenate(others))


def _require_within(name: str, values: NDArray[np.integer], most: int = 2**62) -> None:
    if not 0 <= values.min(initial=0) <= values.max(initial=0) <= most:
        raise ValueError(f"{name} must be from 0 to {most}")
