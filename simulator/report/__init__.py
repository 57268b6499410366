"""Runs as one page to read: what came out, what limited it, and what was run."""

from simulator.report.limits import Finding, limits, utilisation

__all__ = ["Finding", "limits", "utilisation"]
