"""A discrete-event simulator of LLM serving clusters."""

import traces.shared.interruption  # noqa: F401  # before the slow imports

# isort: split
from importlib import import_module
from typing import TYPE_CHECKING

from simulator.shipped import VERSION

if TYPE_CHECKING:
    from simulator.cluster import Deployment
    from simulator.config import ConfigError, load_config
    from simulator.output import load_result
    from simulator.results import SLO, MetricOptions, Objective, Result
    from simulator.simulation import simulate

__version__ = VERSION
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
# Module of each name, imported on first use: the console must start without NumPy and Hydra.
_MODULES = {
    "Deployment": "cluster",
    "ConfigError": "config",
    "load_config": "config",
    "load_result": "output",
    "SLO": "results",
    "MetricOptions": "results",
    "Objective": "results",
    "Result": "results",
    "simulate": "simulation",
}


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:  # mypy would take any name for one of the package

    def __getattr__(name: str) -> object:
        """Import a name on first use."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"simulator.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
