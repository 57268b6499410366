"""Logs of a simulation. Imports nothing from the simulator."""

from simulator.log.fault_spans import FAILURE, KINDS, NETWORK, SLOWDOWN, FaultSpan
from simulator.log.grouping import rows_by_replica
from simulator.log.int_rows import IntRows
from simulator.log.iterations import NO_DECODE_SET, RUN_COLUMNS, IterationLog, LoggedIterations, Members
from simulator.log.request_events import DecodeSpan, RequestEvents
from simulator.log.stage_use import StageUse
from simulator.log.stays import NO_REPLICA, StayEnd, StayLog, Stays

__all__ = [
    "FAILURE",
    "KINDS",
    "NETWORK",
    "NO_DECODE_SET",
    "NO_REPLICA",
    "RUN_COLUMNS",
    "SLOWDOWN",
    "DecodeSpan",
    "FaultSpan",
    "IntRows",
    "IterationLog",
    "LoggedIterations",
    "Members",
    "RequestEvents",
    "StageUse",
    "StayEnd",
    "StayLog",
    "Stays",
    "rows_by_replica",
]
