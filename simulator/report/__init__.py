"""Runs as one page to read: what came out, what limited it, and what was run."""

from simulator.results import Finding, limits, utilisation

__all__ = ["Finding", "limits", "utilisation"]
