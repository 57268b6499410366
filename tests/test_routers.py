"""Routers: the choices of each, the information they have, and laws for all of them."""

from pathlib import Path

import numpy as np
import pytest

from simulator import Deployment, Result, simulate
from simulator.cluster.gateway import Gateway
from simulator.config import load_config
from simulator.iteration_time import Affine
from simulator.kv_cache import KVPool, LayerGroup
from simulator.log import StayEnd
from simulator.model import KVMemory
from simulator.replica import Limits, Replica, RequestTable
from simulator.routers import (
    NO_SESSION,
    Arrival,
    LeastKVUsed,
    LeastOutstandingRequests,
    LeastOutstandingTokens,
    PowerOfTwoChoices,
    Random,
    ReplicaLoad,
    RoundRobin,
    Router,
    Sticky,
)
from simulator.schedulers import Sarathi
from tests.helpers import A100, tiny_model
from traces import Trace

# A router that is added here inherits the laws of every router.
ROUTERS: list[Router] = [
    RoundRobin(),
    Random(),
    LeastOutstandingRequests(),
    LeastOutstandingTokens(),
    LeastKVUsed(),
    PowerOfTwoChoices(),
    Sticky(),
]
NAMES = [type(router).__name__ for router in ROUTERS]
every_router = pytest.mark.parametrize("router", ROUTERS, ids=NAMES)


def workload(num_requests: int = 400, num_sessions: int = 40) -> Trace:
    random = np.random.default_rng(7)
    return Trace(
        random.integers(1, 300, num_requests),
        random.integers(1, 40, num_requests),
        np.sort(random.uniform(0, 10, num_requests)),
        session=random.integers(-1, num_sessions, num_requests),
    )


def serve(router: Router, trace: Trace, *, num_replicas: int = 4, seed: int = 0, max_model_len: int = 1024) -> Result:
    deployment = Deployment(
        tiny_model(max_model_len),
        A100,
        Sarathi(token_budget=64),
        iteration_time=Affine(),
        kv_cache=KVMemory(num_blocks=200),
        num_replicas=num_replicas,
    )
    return simulate(trace, deployment, router=router, seed=seed)


def replica_of(table: RequestTable) -> Replica:
    """Build an idle replica of ten KV blocks."""
    return Replica(table, KVPool(10, [LayerGroup(16)]), Limits(), max_model_len=100)


def loads_of(*outstanding: tuple[int, int, int]) -> list[ReplicaLoad]:
    """Return loads of (outstanding requests, their prompt tokens, requests sent so far) with empty KV caches."""
    table = RequestTable([], [], [], [])
    return [
        ReplicaLoad(replica_of(table), "a40", 1, routed, requests, tokens) for requests, tokens, routed in outstanding
    ]


def choice(router: Router, loads: list[ReplicaLoad], *, request: int = 0, home: int | None = None) -> int:
    arrival = Arrival(request, 100, NO_SESSION, home)
    return router.route(arrival, loads, np.random.default_rng(0))


# --- each router ---------------------------------------------------------------------------------


def test_round_robin_chooses_the_replicas_in_turn() -> None:
    loads = loads_of((9, 9, 9), (0, 0, 0), (5, 5, 5))
    assert [choice(RoundRobin(), loads, request=request) for request in range(5)] == [0, 1, 2, 0, 1]


def test_least_outstanding_requests_breaks_ties_by_requests_sent() -> None:
    assert choice(LeastOutstandingRequests(), loads_of((2, 10, 2), (1, 9000, 5), (3, 5, 3))) == 1
    assert choice(LeastOutstandingRequests(), loads_of((1, 10, 7), (1, 10, 5), (1, 5, 6))) == 1


def test_least_outstanding_tokens_counts_prompt_tokens() -> None:
    assert choice(LeastOutstandingTokens(), loads_of((2, 10, 2), (1, 9000, 5), (3, 5, 3))) == 2


def test_least_kv_used_compares_the_share_of_used_blocks() -> None:
    table = RequestTable([], [], [], [])
    replicas = [replica_of(table) for _ in range(3)]
    for replica, free in zip(replicas, (2, 7, 4), strict=True):
        replica.kv.free_blocks = free
    loads = [ReplicaLoad(replica, "a40", 1) for replica in replicas]
    assert [load.kv_used for load in loads] == pytest.approx([0.8, 0.3, 0.6])
    assert choice(LeastKVUsed(), loads) == 1


def test_power_of_two_choices_compares_two_different_replicas() -> None:
    loads = loads_of(*[(count, 0, 0) for count in (5, 3, 4, 9)])
    random, router = np.random.default_rng(0), PowerOfTwoChoices()
    picks = [router.route(Arrival(0, 1, NO_SESSION, None), loads, random) for _ in range(3000)]
    shares = np.bincount(picks, minlength=4) / 3000
    # The least loaded replica wins three of the six pairs, the next ones two and one, and the most loaded none.
    assert shares == pytest.approx([1 / 6, 3 / 6, 2 / 6, 0], abs=0.03)
    assert choice(router, loads_of((1, 1, 1))) == 0


def test_random_is_uniform() -> None:
    counts = np.bincount(serve(Random(), workload(2000)).requests["replica"], minlength=4)
    assert counts == pytest.approx([500] * 4, abs=100)


def test_sticky_keeps_the_requests_of_a_session_on_one_replica() -> None:
    assert choice(Sticky(), loads_of((9, 0, 0), (0, 0, 0)), home=0) == 0
    assert choice(Sticky(), loads_of((9, 0, 0), (0, 0, 0))) == 1
    trace = workload()
    result = serve(Sticky(), trace)
    assert trace.session is not None
    homes = {session: set(result.requests["replica"][trace.session == session]) for session in range(40)}
    assert {len(home) for home in homes.values()} == {1}
    assert len(set.union(*homes.values())) == 4
    assert len(set(result.requests["replica"][trace.session == NO_SESSION])) > 1


def test_sessions_come_from_a_column_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    rows = [f"{10 * number},5,{number},{'ab'[number % 2] if number < 6 else ''}" for number in range(1, 10)]
    path.write_text("prompt_tokens,output_tokens,arrival_s,session_id\n" + "\n".join(rows))
    overrides = ("trace=csv", f"trace.path={path}", "arrival=trace", "cluster.replicas=2", "cluster.router=sticky")
    arguments = load_config(*overrides)
    assert arguments["trace"].session.tolist() == [0, 1, 0, 1, 0, -1, -1, -1, -1]
    replica = simulate(**arguments).requests["replica"]
    assert replica[:5].tolist() == [0, 1, 0, 1, 0]


# --- information of a router ---------------------------------------------------------------------


@every_router
def test_a_router_does_not_know_the_output_lengths(router: Router) -> None:
    trace = workload()
    # All requests arrive before any can finish: output lengths must not matter.
    together = Trace(trace.prompt_tokens, trace.output_tokens, np.zeros(400), session=trace.session)
    longer = Trace(trace.prompt_tokens, trace.output_tokens + 100, np.zeros(400), session=trace.session)
    assert serve(router, together).requests["replica"].tolist() == serve(router, longer).requests["replica"].tolist()


def test_a_gateway_tracks_outstanding_requests() -> None:
    table = RequestTable([0.0] * 3, [10, 20, 30], [11, 22, 33], [10, 20, 30])
    loads = [ReplicaLoad(replica_of(table), device, 1) for device in ("a40", "h100_sxm")]

    class RecordingRouter:
        seen: list[tuple[int, int, int]]

        def route(self, arrival: Arrival, loads: list[ReplicaLoad], random: np.random.Generator) -> int:
            self.seen = [(load.num_routed, load.num_requests, load.num_tokens) for load in loads]
            return arrival.request % 2

    router = RecordingRouter()
    gateway = Gateway(table, None, loads, router, np.random.default_rng(0))
    gateway.send(0, 0.0)
    gateway.send(1, 0.5)
    assert router.seen == [(1, 1, 10), (0, 0, 0)]
    # A preempted request has more tokens to prefill; the gateway still counts its prompt only.
    table.known_tokens.set(0, 15)
    gateway.end(0, [0], 1.0, StayEnd.FINISHED, was_running=True)
    gateway.send(2, 1.5)
    assert router.seen == [(1, 0, 0), (1, 1, 20)]
    stays = gateway.stays.stays()
    assert (stays.request.tolist(), stays.replica.tolist()) == ([0, 1, 2], [0, 1, 0])
    assert stays.arrived_s.tolist() == table.engine_arrival_s == [0.0, 0.5, 1.5]
    assert stays.left_s.tolist() == pytest.approx([1.0, np.nan, np.nan], nan_ok=True)
    assert stays.why.tolist() == [StayEnd.FINISHED, StayEnd.STILL_THERE, StayEnd.STILL_THERE]


@pytest.mark.parametrize("chosen", [4, -1, 1.0, None])
def test_a_choice_of_a_missing_replica_is_refused(chosen: int) -> None:
    class FaultyRouter:
        def route(self, arrival: Arrival, loads: list[ReplicaLoad], random: np.random.Generator) -> int:
            return chosen

    with pytest.raises(
        ValueError, match=rf"test_routers.py:\d+: FaultyRouter.route chose replica {chosen}; there are 0 to 3"
    ):
        serve(FaultyRouter(), workload())


def test_a_router_by_session_warns_if_the_trace_has_no_sessions() -> None:
    trace = workload()
    assert not any("routes by session" in text for text in serve(Sticky(), trace).summary["warnings"])
    without = Trace(trace.prompt_tokens, trace.output_tokens, trace.arrival_s)
    assert serve(Sticky(), without).summary["warnings"] == ["Sticky routes by session, but the trace has no sessions"]
    assert serve(Random(), without).summary["warnings"] == []


# --- laws ----------------------------------------------------------------------------------------


@every_router
def test_every_request_is_served_once(router: Router) -> None:
    result = serve(router, workload(), max_model_len=250)
    summary = result.summary
    assert summary["num_finished"] + summary["num_ignored"] == 400
    assert summary["num_ignored"] > 0
    assert [replica["num_requests"] for replica in summary["replicas"]] == np.bincount(
        result.requests["replica"], minlength=4
    ).tolist()


@every_router
def test_the_same_seed_gives_the_same_choices(router: Router) -> None:
    choices = [serve(router, workload(), seed=seed).requests["replica"].tolist() for seed in (3, 3, 4)]
    assert choices[0] == choices[1]
    assert (choices[0] != choices[2]) == isinstance(router, Random | PowerOfTwoChoices)


@every_router
def test_a_single_replica_gets_every_request(router: Router) -> None:
    assert serve(router, workload(), num_replicas=1).requests["replica"].tolist() == [0] * 400


def test_refused_requests_are_not_outstanding() -> None:
    # The first replica refuses its request, which must not count as outstanding forever.
    trace = Trace(np.array([600, 10, 10, 10]), np.array([5, 5, 5, 5]), np.array([0.0, 1.0, 2.0, 3.0]))
    result = serve(LeastOutstandingTokens(), trace, num_replicas=2, max_model_len=500)
    assert result.requests["ignored"].tolist() == [1, 0, 0, 0]
    assert result.requests["replica"].tolist() == [0, 1, 0, 1]


def test_balancing_by_load_beats_random_routing() -> None:
    trace = workload(1500)
    worst = {type(router).__name__: serve(router, trace).summary["ttft_s"]["p99"] for router in ROUTERS}
    assert worst["LeastOutstandingRequests"] < worst["Random"]
    assert worst["PowerOfTwoChoices"] < worst["Random"]


def test_replicas_and_routing_do_not_change_the_trace() -> None:
    single, several = (
        load_config("cluster.router=random", f"cluster.replicas={count}", "trace=sharegpt") for count in (1, 3)
    )
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        assert np.array_equal(getattr(single["trace"], name), getattr(several["trace"], name))
