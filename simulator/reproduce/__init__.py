"""Experiments of Sarathi-Serve (OSDI 2024, arXiv:2403.02310), compared with the published numbers."""

from simulator.reproduce.experiments import LINEAR
from simulator.reproduce.published import FIGURE_6

__all__ = ["FIGURE_6", "LINEAR"]
