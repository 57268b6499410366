"""HTML reports of runs: metrics, bottlenecks, plots and configuration."""

from simulator.results import Finding, limits, utilisation

__all__ = ["Finding", "limits", "utilisation"]
