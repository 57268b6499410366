"""A cluster of replicas behind a router, with arrivals and fault injection."""

from simulator.cluster.cluster import Cluster
from simulator.cluster.collect import collect_result, request_ids
from simulator.cluster.deployment import (
    Deployment,
    groups_of,
    has_token_budget,
    specs_of,
    token_budget_of,
    with_token_budget,
)
from simulator.cluster.faults import RESTART, Fault, FaultRate, Faults
from simulator.cluster.fixed_routes import fixed_routes
from simulator.cluster.follow_ups import FollowUps
from simulator.cluster.parts import BACKENDS, Part, PartSimulation, split
from simulator.cluster.replica_spec import ReplicaSpec
from simulator.cluster.request_table import request_table

__all__ = [
    "BACKENDS",
    "RESTART",
    "Cluster",
    "Deployment",
    "Fault",
    "FaultRate",
    "Faults",
    "FollowUps",
    "Part",
    "PartSimulation",
    "ReplicaSpec",
    "collect_result",
    "fixed_routes",
    "groups_of",
    "has_token_budget",
    "request_ids",
    "request_table",
    "specs_of",
    "split",
    "token_budget_of",
    "with_token_budget",
]
