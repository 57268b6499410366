"""Checks that a run loses nothing and keeps times in order.

Some checks are made during the run, others afterwards.
"""

from simulator.invariants.checked_replica import CheckedReplica
from simulator.invariants.errors import InvariantError
from simulator.invariants.expected_state import ExpectedState
from simulator.invariants.result_laws import check_result

__all__ = [
    "CheckedReplica",
    "ExpectedState",
    "InvariantError",
    "check_result",
]
