"""Predicted against measured serving, on public measurements."""

from simulator.accuracy.points import Point, Skipped
from simulator.accuracy.predictions import Comparison, compare

__all__ = ["Comparison", "Point", "Skipped", "compare"]
