"""A discrete-event simulator of LLM serving clusters."""

import traces.shared.interruption  # noqa: F401  # before anything that takes long to import

# isort: split
from simulator.cluster.deployment import Deployment
from simulator.output.saved_run import load_result
from simulator.results.result import MetricOptions, Result
from simulator.simulation import simulate

__version__ = "0.1.0"
__all__ = ["Deployment", "MetricOptions", "Result", "load_result", "simulate"]
