"""Runs side by side, simulated and measured."""

from simulator.compare.runs import ReadError, Run, read_run

__all__ = ["ReadError", "Run", "read_run"]
