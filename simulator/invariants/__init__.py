"""Checks, while a run goes on and behind it, that nothing is lost and that times are in order."""

from simulator.invariants.checked_overlapping_replica import CheckedOverlappingReplica
from simulator.invariants.checked_replica import CheckedReplica
from simulator.invariants.expected_state import ExpectedState, InvariantError
from simulator.invariants.result_laws import check_result

__all__ = [
    "CheckedOverlappingReplica",
    "CheckedReplica",
    "ExpectedState",
    "InvariantError",
    "check_result",
]
