"""A cluster of replicas behind a router, with arrivals and fault injection."""

from simulator.cluster.cluster import Cluster
from simulator.cluster.collect import collect_result
from simulator.cluster.deployment import (
    Deployment,
    groups_of,
    has_token_budget,
    token_budget_of,
    with_token_budget,
)
from simulator.cluster.faults import RESTART, Fault, FaultRate, Faults
from simulator.cluster.follow_ups import FollowUps
from simulator.cluster.replica_spec import ReplicaSpec
from simulator.cluster.request_table import request_table

__all__ = [
    "RESTART",
    "Cluster",
    "Deployment",
    "Fault",
    "FaultRate",
    "Faults",
    "FollowUps",
    "ReplicaSpec",
    "collect_result",
    "groups_of",
    "has_token_budget",
    "request_table",
    "token_budget_of",
    "with_token_budget",
]
