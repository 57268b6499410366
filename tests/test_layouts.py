"""Layouts of replicas on machines: the links between GPUs, and the time of their messages."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from simulator.config import ConfigError, component, load_config
from simulator.iteration_time import Collectives, LinkCurve, load_links
from simulator.iteration_time.link_curves import SHIPPED
from simulator.model import EngineOverhead, Layout, Link, Network, Node, Parallelism
from simulator.replica import Batch
from simulator.results import Warning
from tests.helpers import A100, tiny_model

ETHERNET = Network("Ethernet", 10.0, 1, 0.5, 0.8, 60.0, 30.0)
# Pairs of GPUs at 100 GB/s, two pairs joined at 20 GB/s; without measured links.
PAIRS = Node("pairs", "a100_80gb", 4, [Link(2, 100.0, 5.0), Link(4, 20.0, 10.0)], ETHERNET)
MODEL = replace(tiny_model(1024), num_q_heads=24, num_kv_heads=24, num_layers=8)
GB = 1e9


def layout(tp: int, pp: int = 1, node: Node = PAIRS, **options: object) -> Layout:
    return Layout(MODEL, A100, Parallelism(tp=tp, pp=pp, **options), node)  # type: ignore[arg-type]


# --- placement -----------------------------------------------------------------------------------


def test_stages_fill_one_machine_before_the_next() -> None:
    single = layout(1, 6)
    pair, board = PAIRS.links
    assert [single.send_link(stage) for stage in range(5)] == [pair, board, pair, None, pair]
    assert (single.num_nodes, layout(2, 2).num_nodes, layout(4, 2).num_nodes, layout(8, 2).num_nodes) == (2, 1, 2, 4)
    assert layout(2, 2).send_link(0) == PAIRS.links[1]
    assert layout(4, 2).send_link(0) is None
    assert layout(8, 2).send_link(0) is None


def test_small_replicas_share_a_machine_and_large_ones_span_several() -> None:
    assert [layout(1).nodes_for(count) for count in (1, 4, 5)] == [1, 1, 2]
    assert [layout(2).nodes_for(count) for count in (2, 3)] == [1, 2]
    # A machine of four GPUs has room for only one replica of three.
    assert layout(3).nodes_for(2) == 2
    assert layout(4, 2).nodes_for(3) == 6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["parallel.tp=3"], "parallel.tp=3 must divide the 32 query heads of mistral_7b"),
        (["parallel.tp=16"], None),
        (["model=yi_34b", "parallel.tp=14"], "parallel.tp=14 must divide the 8 key-value heads of yi_34b"),
        (["model=yi_34b", "parallel.tp=7"], "parallel.tp=7 must divide the 8 key-value heads of yi_34b"),
        (["parallel.pp=33"], "parallel.pp=33 must be at most the 32 layers of mistral_7b"),
        (["parallel.pp=2", "parallel.stage_layers=[16,17]"], "parallel.stage_layers=[16, 17] must add up to the 32"),
        (["parallel.pp=2", "parallel.stage_layers=[32]"], "parallel.stage_layers must be a list of pp=2 integers"),
        (
            ["parallel.pp=2", "parallel.stage_layers=[32,0]"],
            "parallel.stage_layers[1] must be an integer of at least 1",
        ),
        (["parallel.overlap_sends=2"], "parallel.overlap_sends must be true or false, got 2"),
        (["model=llama2_70b"], "llama2_70b with tp=1 pp=1 does not fit a100_80gb: of 80 GiB x 0.85"),
        (
            ["cluster.num_nodes=1", "cluster.replicas=3", "parallel.tp=2"],
            "cluster.num_nodes=1: 3 replicas of 2 GPUs need 2 machines of 4 GPUs (azure_nc96ads_v4)",
        ),
        (["cluster.num_nodes=0"], "cluster.num_nodes must be an integer of at least 1 or null, got 0"),
        (
            ["cluster.node=dgx_a100", "cluster.node.num_gpus=6", "cluster.node.links.0.num_gpus=6", "parallel.tp=8"],
            "parallel.tp=8 does not fill whole machines: dgx_a100 has 6 GPUs",
        ),
        (["cluster.node.measured=[nowhere]", "parallel.tp=2"], "no link curves "),
        (
            ["cluster.node.network.message_share=2"],
            "cluster.node.network.message_share must be a number from 1e-6 to 1",
        ),
        (["cluster.node.network.num_adapters=0"], "cluster.node.network.num_adapters must be an integer from 1"),
        (["cluster.node.measured=abc"], "cluster.node.measured must be a list of names or paths, got 'abc'"),
        (["cluster.node.name=nan"], "cluster.node.name must be a text, got nan"),
        (
            ["cluster.node.links=[{_target_: simulator.model.Link}]"],
            "cluster.node.links[0].num_gpus has no default",
        ),
        (["cluster.node.links.0.bandwidth_gb_per_s=0"], "bandwidth_gb_per_s must be a number from 1e-6 to 1e9, got 0"),
    ],
    ids=str,
)
def test_layouts_that_do_not_fit_the_machines_are_refused_with_a_reason(
    overrides: list[str], message: str | None
) -> None:
    if message is None:
        assert load_config(*overrides)["deployment"].layout.num_nodes == 4
        return
    with pytest.raises(ConfigError) as error:
        load_config(*overrides)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_several_gpus_need_a_known_machine() -> None:
    with pytest.raises(ValueError, match=r"parallel.tp=2, pp=1 needs cluster\.node"):
        Collectives(Layout(MODEL, A100, Parallelism(tp=2)), EngineOverhead())


# --- messages ------------------------------------------------------------------------------------


def test_an_all_reduce_runs_at_the_slowest_link_of_its_ring() -> None:
    assert Collectives(layout(1), EngineOverhead()).all_reduce_time(GB) == 0
    assert Collectives(layout(2), EngineOverhead()).all_reduce_time(GB) == pytest.approx(5e-6 + 1 / 100)
    assert Collectives(layout(4), EngineOverhead()).all_reduce_time(GB) == pytest.approx(10e-6 + 1.5 / 20)
    # Eight GPUs on two machines: half of the line rate of one adapter.
    assert Collectives(layout(8), EngineOverhead()).all_reduce_time(GB) == pytest.approx(60e-6 + 1.75 / 5)
    wide = replace(PAIRS, network=replace(ETHERNET, num_adapters=8))
    assert Collectives(layout(8, node=wide), EngineOverhead()).all_reduce_time(GB) == pytest.approx(60e-6 + 1.75 / 20)


def test_an_all_gather_takes_half_the_time_of_an_all_reduce() -> None:
    four = Collectives(layout(4), EngineOverhead())
    assert four.all_gather_time(GB) == four.all_reduce_time(GB) / 2


def test_messages_between_machines_share_the_adapters() -> None:
    # Each of four GPUs sends the whole message; they share 10 GB/s at 80 %.
    assert Collectives(layout(4, 2), EngineOverhead()).send_time(0, GB) == pytest.approx(30e-6 + 4 / 8)
    assert Collectives(layout(1, 6), EngineOverhead()).send_time(3, GB) == pytest.approx(30e-6 + 1 / 8)
    sliced = Collectives(layout(4, 2, sliced_sends=True), EngineOverhead())
    assert sliced.send_time(0, GB) == pytest.approx(30e-6 + 1 / 8)


def test_messages_within_a_machine_use_the_link_between_the_stages() -> None:
    stages = Collectives(layout(1, 4), EngineOverhead())
    assert [stages.send_time(stage, GB) for stage in range(3)] == pytest.approx([0.010005, 0.05001, 0.010005])


def test_measured_times_take_precedence_over_formulas() -> None:
    known = load_links("a100_nvlink_pairs").curve("all_reduce", 4, 4)
    assert known is not None
    azure = component("cluster.node", "azure_nc96ads_v4")
    four = Collectives(layout(4, node=azure), EngineOverhead())
    assert four.all_reduce_time(1e7) == known.time(1e7)
    assert four.sources == ["all_reduce of 4 GPUs: a100_nvlink_pairs"]
    assert not four.warnings
    # Without a measurement of three GPUs: a ring over the slowest link.
    three = Collectives(layout(3, node=azure), EngineOverhead())
    assert three.all_reduce_time(1e9) == pytest.approx(20e-6 + 4 / 3 / 29.8)
    assert three.sources == []
    ring = "all-reduce of 3 GPUs was not measured on azure_nc96ads_v4: a ring at 29.8 GB/s"
    assert three.warnings == [Warning("unmeasured", ring)]


def test_message_times_beyond_their_measurements_give_warnings() -> None:
    azure = component("cluster.node", "azure_nc96ads_v4")
    (warning,) = Collectives(layout(4, 2, node=azure), EngineOverhead()).warnings
    assert warning.text.startswith("messages between machines were not measured: 100 Gbps Ethernet")
    assert Collectives(layout(1, 2, node=azure), EngineOverhead()).warnings == []
    (warning,) = Collectives(layout(1, 4, node=azure), EngineOverhead()).warnings
    assert warning.text == "some messages between stages were not measured on azure_nc96ads_v4: 29.8 GB/s"
    (warning,) = Collectives(layout(4, node=component("cluster.node", "dgx_h100")), EngineOverhead()).warnings
    assert warning.text.startswith("links of dgx_h100 are known for h100_sxm and assumed unchanged for a100_80gb")


def test_pairs_are_fast_and_messages_over_pcie_are_slow() -> None:
    """183 and 24 to 30 GB/s of bus bandwidth were measured on this machine."""
    links = load_links("a100_nvlink_pairs")
    for num_gpus, low, high in ((2, 175, 190), (4, 24, 32)):
        curve = links.curve("all_reduce", num_gpus, num_gpus)
        assert curve is not None
        assert low < 2 * (num_gpus - 1) / num_gpus * 6.4e7 / curve.time(6.4e7) / 1e9 < high


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.json")))
def test_longer_messages_do_not_take_less_time(name: str) -> None:
    for curve in load_links(name).curves:
        seconds = curve.time(np.geomspace(16, 1e11, 500))
        assert (np.diff(seconds) >= 0).all()
        assert seconds[0] == pytest.approx(curve.seconds[0])


def test_a_curve_is_interpolated_between_its_knots_and_extrapolated_beyond_them() -> None:
    curve = LinkCurve("send", 2, 2, [1e3, 1e6, 2e6], [1e-5, 1e-4, 3e-4])
    assert curve.time(10.0) == curve.time(1e3) == pytest.approx(1e-5)
    assert curve.time(1e3 * 1000**0.5) == pytest.approx(1e-5 * 10**0.5)
    assert curve.time(4e6) == pytest.approx(3e-4 + 2e6 * 2e-4 / 1e6)
    assert curve.time(np.array([1e6, 2e6])) == pytest.approx([1e-4, 3e-4])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a file of link curves"),
        ("[]", "it must be a JSON object"),
        ("{}", "it has no format"),
        ('{"format": 2}', "format must be 1"),
        ('{"format": 1, "about": {}}', "it has no machine"),
        ('{"format": 1, "about": {"machine": "x"}}', "it has no curves"),
        ('{"format": 1, "about": {"machine": "x"}, "curves": [{"operator": "send"}]}', "missing"),
        (
            '{"format": 1, "about": {"machine": "x"}, "curves": [{"operator": "send", "num_gpus": 2, '
            '"gpus_per_node": 2, "num_bytes": [2, 1], "seconds": [1, 2]}]}',
            "sizes of a curve must increase",
        ),
        (
            '{"format": 1, "about": {"machine": "x"}, "curves": [{"operator": "send", "num_gpus": 2, '
            '"gpus_per_node": 2, "num_bytes": [1], "seconds": [1]}]}',
            "at least two sizes",
        ),
    ],
)
def test_files_that_are_not_link_curves_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "links.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_links(str(path))
    assert str(path) in str(error.value)


# --- iterations ----------------------------------------------------------------------------------


def test_slower_links_make_longer_iterations() -> None:
    """Tensor parallelism saves less time the slower the links are."""

    def seconds(*overrides: str) -> float:
        times = load_config("model=llama2_70b", "parallel.tp=8", "device=a100_80gb_sxm", *overrides)
        return float(sum(times["deployment"].stage_times()(Batch.of([(512, 0)], []))))

    inside = seconds()
    infiniband = seconds("cluster.node.num_gpus=4", "cluster.node.links.0.num_gpus=4")
    ethernet = seconds("cluster.node=azure_nc96ads_v4")
    for faster, slower in pairwise((inside, infiniband, ethernet)):
        assert faster < slower


def test_the_receiving_stage_gathers_sliced_sends() -> None:
    overrides = ("parallel.pp=2", "parallel.tp=2", "engine=none", "iteration_time=roofline")
    batch = Batch.of([(512, 0)], [])
    whole, sliced = (
        load_config(*overrides, f"parallel.sliced_sends={value}")["deployment"].stage_times()(batch)
        for value in ("false", "true")
    )
    assert sliced[0] == whole[0]
    assert sliced[1] < whole[1]
    gather_s = Collectives(load_config(*overrides)["deployment"].layout, EngineOverhead()).all_gather_time(
        512 * 4096 * 2.0
    )
    assert sliced[2] - whole[2] == pytest.approx(gather_s)


def test_the_slowest_link_between_its_gpus_limits_a_stage() -> None:
    # Three GPUs per stage: the second stage has GPUs 3, 4 and 5, in both groups of four.
    node = Node("eight", "a100_80gb", 8, [Link(2, 100.0, 5.0), Link(4, 50.0, 5.0), Link(8, 20.0, 10.0)], ETHERNET)
    assert layout(3, 2, node=node).tp_link == node.links[2]
    assert layout(3, node=node).tp_link == node.links[1]
    assert layout(3, 2, node=node).send_link(0) == node.links[2]


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ([Link(2, 10.0, 5.0), Link(3, 5.0, 5.0)], r"each join a multiple of the GPUs of the link before, got \[2, 3\]"),
        ([Link(1, 10.0, 5.0), Link(3, 50.0, 5.0)], r"from the fastest to the slowest, got \[10.0, 50.0\] GB/s"),
        ([Link(2, 10.0, 5.0)], r"must join increasing numbers of GPUs, the last all 3; got \[2\]"),
        ([], "must be a list of at least one Link"),
    ],
)
def test_impossible_links_are_refused(links: list[Link], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Node("odd", "a100_80gb", 3, links, ETHERNET)


def test_stages_may_have_different_numbers_of_layers() -> None:
    overrides = ("parallel.pp=2", "engine=none", "iteration_time=roofline")
    times = load_config(*overrides, "parallel.stage_layers=[24,8]")["deployment"].stage_times()
    even = load_config(*overrides)["deployment"].stage_times()
    batch = Batch.of([(512, 0)], [])
    (first, message, second), (even_first, even_message, even_second) = times(batch), even(batch)
    assert message == even_message > 0
    assert first == pytest.approx(even_first * 24 / 16, rel=0.02)
    assert first + second == pytest.approx(even_first + even_second)
