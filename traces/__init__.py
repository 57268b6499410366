"""Workloads: readers and generators of request traces."""

import traces.shared.interruption  # before anything that takes long to import
import traces.shared.missing_packages  # noqa: F401

# isort: split
from typing import TYPE_CHECKING

from traces.shared.lazy_names import lazy_names

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
    __getattr__ = lazy_names(__name__, _MODULES)
