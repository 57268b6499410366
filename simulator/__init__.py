"""A discrete-event simulator of LLM serving clusters."""

import traces.shared.interruption  # noqa: F401  # before the slow imports

# isort: split
from typing import TYPE_CHECKING, Any

from simulator.cluster import Deployment
from simulator.output import load_result
from simulator.results import SLO, MetricOptions, Objective, Result
from simulator.simulation import simulate

if TYPE_CHECKING:
    from simulator.config import ConfigError, load_config

__all__ = [
    "SLO",
    "ConfigError",
    "Deployment",
    "MetricOptions",
    "Objective",
    "Result",
    "load_config",
    "load_result",
    "simulate",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """Import names that need Hydra on first use."""
    if name not in ("ConfigError", "load_config", "__version__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from simulator import config

    return config.VERSION if name == "__version__" else getattr(config, name)
