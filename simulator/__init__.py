"""A discrete-event simulator of LLM serving clusters."""

import traces.shared.interruption  # noqa: F401  # before the slow imports

# isort: split
import simulator.core  # noqa: F401  # before any module of the core

# isort: split
from typing import TYPE_CHECKING

from simulator.shipped import VERSION
from traces.shared.lazy_names import lazy_names

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
    __getattr__ = lazy_names(__name__, _MODULES)
