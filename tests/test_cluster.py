"""Clusters of heterogeneous replicas: groups, totals and cost."""

import json

import numpy as np
import pytest

from simulator import Deployment, simulate
from simulator.config import ConfigError, load_config
from simulator.schedulers import VLLM, Sarathi
from tests.helpers import A100, serve, tiny_model, trace_of

MIXED = (
    "cluster.groups=[{device: a40, replicas: 2}, "
    "{device: h100_sxm, scheduler: vllm, parallel: {tp: 2, pp: 2}, replicas: 1}, "
    "{node: dgx_a100, scheduler: {token_budget: 256}, kv_cache: {memory_utilization: 0.9}}]"
)


def test_a_group_overrides_its_own_keys_and_inherits_the_rest() -> None:
    a40, h100, a100 = load_config(MIXED, "scheduler.max_num_seqs=99", "kv_cache.block_size=32")["deployment"]
    assert [group.device.name for group in (a40, h100, a100)] == ["a40", "h100_sxm", "a100_80gb"]
    # A device implies its node, unless a node is named.
    assert [group.node.name for group in (a40, h100, a100)] == ["a40_8x_pairs", "dgx_h100", "dgx_a100"]
    assert [group.num_replicas for group in (a40, h100, a100)] == [2, 1, 1]
    assert a40.scheduler == Sarathi(token_budget=512, max_num_seqs=99)
    assert h100.scheduler == VLLM()
    assert a100.scheduler == Sarathi(token_budget=256, max_num_seqs=99)
    assert (h100.parallel.tp, h100.parallel.pp, a40.parallel.num_gpus) == (2, 2, 1)
    assert [group.kv_cache.block_size for group in (a40, h100, a100)] == [32] * 3
    assert [group.kv_cache.memory_utilization for group in (a40, h100, a100)] == [0.85, 0.85, 0.9]


def test_a_name_selects_a_file_unchanged_and_a_target_replaces_the_component() -> None:
    target = "{_target_: simulator.schedulers.VLLM, max_num_seqs: 7}"
    groups = f"cluster.groups=[{{scheduler: sarathi, device: a100_80gb}}, {{scheduler: {target}}}, {{}}]"
    changed = ("scheduler.token_budget=1024", "device.memory_gib=40", "cluster.node=dgx_h100")
    named, replaced, plain = load_config(groups, *changed)["deployment"]
    assert (named.scheduler.token_budget, named.device.memory_gib, named.node.name) == (512, 80, "azure_nc96ads_v4")
    assert replaced.scheduler == VLLM(max_num_seqs=7)
    assert (plain.scheduler.token_budget, plain.device.memory_gib, plain.node.name) == (1024, 40, "dgx_h100")


def test_replicas_are_numbered_across_groups_and_have_their_own_iteration_times() -> None:
    result = simulate(**load_config(MIXED, "trace=sharegpt", "trace.num_requests=80", "arrival.qps=3"))
    replicas = result.summary["replicas"]
    assert [(row["replica"], row["group"], row["device"], row["num_gpus"]) for row in replicas] == [
        (0, 0, "a40", 1),
        (1, 0, "a40", 1),
        (2, 1, "h100_sxm", 4),
        (3, 2, "a100_80gb", 1),
    ]
    assert [len(row["stages"]) for row in replicas] == [1, 1, 2, 1]
    means = [float(np.mean(np.diff(replica.iterations["end_s"]))) for replica in result.replicas]
    assert means[0] > means[3]
    sources = " ".join(result.summary["iteration_time"]["sources"])
    assert all(name in sources for name in ("a40", "h100_sxm", "a100_80gb"))


def test_totals_of_replicas_add_up_to_those_of_the_cluster() -> None:
    overrides = (MIXED, "trace=sharegpt", "trace.num_requests=80", "arrival.qps=3", "cluster.router=random")
    summary = simulate(**load_config(*overrides)).summary
    for name in ("num_requests", "num_finished", "num_iterations", "num_preemptions"):
        assert sum(row[name] for row in summary["replicas"]) == summary[name]
    for name in ("requests_per_s", "output_tokens_per_s"):
        assert sum(row[name] for row in summary["replicas"]) == pytest.approx(summary[name])
    assert sum(row["num_gpus"] for row in summary["replicas"]) == summary["cluster"]["num_gpus"] == 7
    assert sum(row["kv_use"]["num_blocks"] for row in summary["replicas"]) == summary["kv_use"]["num_blocks"]
    json.dumps(summary, allow_nan=False)


def test_cost_follows_from_prices_and_output() -> None:
    overrides = (MIXED, "trace=sharegpt", "trace.num_requests=40", "device.price_per_hour_usd=3")
    summary = simulate(**load_config(*overrides)).summary
    per_hour = summary["cluster"]["cost_per_hour_usd"]
    # The third group has the device of the configuration, with its overridden price.
    assert per_hour == pytest.approx(2 * 0.44 + 4 * 6.88 + 3)
    tokens_per_hour = summary["output_tokens_per_s"] * 3600
    assert summary["cluster"]["cost_per_million_output_tokens_usd"] == pytest.approx(per_hour / tokens_per_hour * 1e6)


def test_an_unknown_price_leaves_the_cost_unknown() -> None:
    overrides = ("device.price_per_hour_usd=null", "trace=fixed", "trace.num_requests=3")
    cluster = simulate(**load_config(*overrides)).summary["cluster"]
    assert cluster == {
        "num_replicas": 1,
        "num_gpus": 1,
        "cost_per_hour_usd": None,
        "cost_per_million_output_tokens_usd": None,
    }


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("3", "cluster.groups must be null or a list of groups {device, node, parallel, scheduler,"),
        ("[]", "cluster.groups must be null or a list of groups"),
        ("[a40]", "cluster.groups[0] must be {device, node, parallel, scheduler,"),
        ("[{device: ../model/llama2_7b}]", "cluster.groups[0].device must be one of a100_80gb"),
        (
            "[{devise: a40}]",
            "cluster.groups[0].devise is not a key; did you mean cluster.groups[0].device?",
        ),
        ("[{}, {device: b200}]", "cluster.groups[1].device must be one of a100_80gb, a100_80gb_sxm, a40"),
        ("[{node: shed}]", "cluster.groups[0].node must be one of a40_8x_pairs"),
        (
            "[{scheduler: fifo}]",
            "cluster.groups[0].scheduler must be one of chunked_prefills, faster_transformer, orca, sarathi, vllm",
        ),
        ("[{scheduler: {token_budget: 0}}]", "cluster.groups[0].scheduler.token_budget must be an integer of"),
        ("[{scheduler: {token_bucket: 9}}]", "cluster.groups[0].scheduler.token_bucket is not a key"),
        ("[{parallel: 2}]", "cluster.groups[0].parallel has keys of its own"),
        ("[{parallel: two}]", "cluster.groups[0].parallel has keys of its own"),
        ("[{parallel: {tp: 3}}]", "cluster.groups[0]: parallel.tp=3 must divide the 32 query heads"),
        ("[{replicas: 0}]", "cluster.groups[0].replicas must be an integer from 1"),
        (
            "[{parallel: {tp: 4}, replicas: 2, num_nodes: 1}]",
            "cluster.groups[0]: cluster.num_nodes=1: 2 replicas of 4 GPUs need 2 machines of 4 GPUs",
        ),
    ],
)
def test_mistakes_in_groups_are_named(groups: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(f"cluster.groups={groups}")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_groups_can_be_built_without_a_configuration() -> None:
    groups = [Deployment(tiny_model(1024), A100, scheduler) for scheduler in (Sarathi(), VLLM())]
    result = simulate(trace_of([(0.1 * number, 50, 7) for number in range(10)]), groups)
    assert result.summary["num_finished"] == 10
    assert [row["group"] for row in result.summary["replicas"]] == [0, 1]


def test_equal_groups_behave_as_one_deployment() -> None:
    requests = [(0.05 * number, 50 + number, 7) for number in range(40)]
    alike = load_config("cluster.groups=[{replicas: 1}, {replicas: 1}]", "trace.num_requests=30")
    together = load_config("cluster.replicas=2", "trace.num_requests=30")
    grouped, single = simulate(**alike), simulate(**together)
    assert grouped.requests["completed_s"].tolist() == single.requests["completed_s"].tolist()
    assert len(serve(requests, Sarathi(), num_replicas=2).summary["replicas"]) == 2
