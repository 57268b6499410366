"""The highest load that a deployment carries within its SLO."""

from simulator.capacity.bisection import Bisection, Capacity, Trial, find_capacity
from simulator.capacity.experiment import CapacityExperiment

__all__ = ["Bisection", "Capacity", "CapacityExperiment", "Trial", "find_capacity"]
