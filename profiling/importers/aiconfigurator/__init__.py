"""Importer of the kernel tables in the PyPI wheels aiconfigurator-core and aisimulate (NVIDIA, Apache-2.0)."""

from profiling.importers.aiconfigurator.doubtful import drop_doubtful
from profiling.importers.aiconfigurator.readers import tables
from profiling.importers.aiconfigurator.systems import System, system

__all__ = ["System", "drop_doubtful", "system", "tables"]
