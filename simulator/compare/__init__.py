"""Comparison of simulated and measured runs."""

from simulator.compare.runs import ReadError, Run, read_run

__all__ = ["ReadError", "Run", "read_run"]
