"""Tools behind `python -m traces`: describe, convert, fit."""

from traces.tools.describe import describe
from traces.tools.fit import fit
from traces.tools.save import SUFFIXES, save

__all__ = [
    "SUFFIXES",
    "describe",
    "fit",
    "save",
]
