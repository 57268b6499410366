"""Routing policies: one file each, chosen by `_target_`."""

from simulator.routers.base import NO_SESSION, Arrival, ReplicaLoad, Router
from simulator.routers.least_kv_used import LeastKVUsed
from simulator.routers.least_outstanding_requests import LeastOutstandingRequests
from simulator.routers.least_outstanding_tokens import LeastOutstandingTokens
from simulator.routers.power_of_two_choices import PowerOfTwoChoices
from simulator.routers.random import Random
from simulator.routers.round_robin import RoundRobin
from simulator.routers.sticky import Sticky

__all__ = [
    "NO_SESSION",
    "Arrival",
    "LeastKVUsed",
    "LeastOutstandingRequests",
    "LeastOutstandingTokens",
    "PowerOfTwoChoices",
    "Random",
    "ReplicaLoad",
    "RoundRobin",
    "Router",
    "Sticky",
]
