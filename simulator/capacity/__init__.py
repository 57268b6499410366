"""Capacity: the highest request rate that a deployment serves within its SLO."""

from simulator.capacity.bisection import Bisection, Capacity, Trial, find_capacity
from simulator.capacity.config import CapacityTask, build_capacity, load_capacity
from simulator.capacity.experiment import lasting_warnings

__all__ = [
    "Bisection",
    "Capacity",
    "CapacityTask",
    "Trial",
    "build_capacity",
    "find_capacity",
    "lasting_warnings",
    "load_capacity",
]
