"""Runs as one page to read: what came out, what limited it, and what was run."""

from simulator.results.bottlenecks import Finding, limits, utilisation

__all__ = ["Finding", "limits", "utilisation"]
