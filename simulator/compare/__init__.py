"""Comparison of simulated and measured runs."""

from simulator.compare.run import Run
from simulator.compare.runs import ReadError, read_run

__all__ = ["ReadError", "Run", "read_run"]
