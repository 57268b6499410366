"""Importer of the kernel tables of aiconfigurator-core and aisimulate.

Both are wheels on PyPI (NVIDIA, Apache-2.0).
"""

from profiling.importers.aiconfigurator.doubtful import drop_doubtful
from profiling.importers.aiconfigurator.readers import tables
from profiling.importers.aiconfigurator.systems import System, system

__all__ = ["System", "drop_doubtful", "system", "tables"]
