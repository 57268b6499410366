"""Workloads: readers and generators of request traces."""

import traces.shared.interruption  # noqa: F401  # before anything that takes long to import

# isort: split
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traces.base import Arrivals, Source
    from traces.trace import Client, PrefixBlocks, Trace
    from traces.workload import Workload

__all__ = ["Arrivals", "Client", "PrefixBlocks", "Source", "Trace", "Workload"]
# Module of each name, imported on first use: `traces.shared` must not need NumPy.
_MODULES = {
    "Arrivals": "base",
    "Source": "base",
    "Client": "trace",
    "PrefixBlocks": "trace",
    "Trace": "trace",
    "Workload": "workload",
}


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:  # mypy would take any name for one of the package

    def __getattr__(name: str) -> object:
        """Import a name on first use."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"traces.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
