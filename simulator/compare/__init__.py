"""Comparison of simulated and measured runs."""

from simulator.compare.run import Run
from simulator.compare.runs import read_run

__all__ = ["Run", "read_run"]
