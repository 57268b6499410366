"""Arrival processes."""

from traces.arrivals.basic import Constant, Gamma, Poisson, Recorded, Renewal, Weibull
from traces.arrivals.sessions import ClosedLoop, Sessions, find_sessions
from traces.arrivals.varying_rate import MarkovModulated, VaryingRate

__all__ = [
    "ClosedLoop",
    "Constant",
    "Gamma",
    "MarkovModulated",
    "Poisson",
    "Recorded",
    "Renewal",
    "Sessions",
    "VaryingRate",
    "Weibull",
    "find_sessions",
]
