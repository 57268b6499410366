"""Pictures show what the runs did, and their bytes are reproducible."""

import xml.etree.ElementTree as ET
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from simulator import Result, simulate
from simulator.config import load_config
from simulator.plot import (
    batch_composition,
    capacities,
    capacity_against_slo,
    generation_stalls,
    knee,
    kv_and_queue,
    latency_against_load,
    latency_cdfs,
    pipeline_timeline,
    save,
)
from simulator.plot.stalls import Stall, longest_stall
from simulator.results import blocks_used, kv_use, num_running, output_tokens, queue_length, stalls
from simulator.schedulers import VLLM, Sarathi
from tests.helpers import serve
from traces.shared.figure_style import COLOURS, DASHES, rendered

PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def runs() -> dict[str, Result]:
    few = ("trace=arxiv", "trace.num_requests=30", "arrival.qps=1")
    return {name: simulate(**load_config(f"scheduler={name}", *few)) for name in ("sarathi", "vllm")}


@pytest.fixture(scope="module")
def pipelined() -> Result:
    few = ("trace=sharegpt", "trace.num_requests=20", "arrival.qps=4")
    return simulate(**load_config("model=yi_34b", "parallel.pp=4", "scheduler=vllm", *few))


def lab(colour: str, vision: np.ndarray) -> np.ndarray:
    """Return the CIELAB of a colour under simulated vision (Machado et al. 2009, severity 1)."""
    rgb = np.array([int(colour[index : index + 2], 16) for index in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(vision @ linear, 0, 1) / np.array([0.9505, 1, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


@pytest.mark.parametrize("vision", VISION)
def test_colour_blind_readers_can_distinguish_series(vision: str) -> None:
    for (_, first), (index, second) in combinations(enumerate(COLOURS), 2):
        difference = np.linalg.norm(lab(first, VISION[vision]) - lab(second, VISION[vision]))
        assert difference > (30 if index < 4 else 12), (first, second)


def test_series_can_be_distinguished_in_grey() -> None:
    lightness = [float(lab(colour, VISION["normal"])[0]) for colour in COLOURS]
    assert min(abs(first - second) for first, second in combinations(lightness[:4], 2)) > 15
    assert len({str(dashes) for dashes in DASHES}) == len(DASHES) >= len(COLOURS)


def test_latency_curves_follow_the_distributions(runs: dict[str, Result]) -> None:
    figure = latency_cdfs(runs)
    for axes, metric in zip(figure.axes, ("ttft_s", "tbt_s", "e2e_s"), strict=True):
        curves = [line for line in axes.lines if len(line.get_xdata()) > 1]
        unit, unit_s = ("ms", 1e-3) if metric == "tbt_s" else ("s", 1.0)
        for curve, run in zip(curves, runs.values(), strict=True):
            values, shares = run.latencies[metric].cdf()
            assert curve.get_xdata()[-1] == values[-1] / unit_s
            assert values[-1] == run.summary[metric]["max"]
            drawn = set(zip(curve.get_xdata(), curve.get_ydata(), strict=True))
            assert drawn <= set(zip(values / unit_s, 100 * shares, strict=True))
        assert axes.get_xlabel().endswith(f", {unit}")
        assert axes.get_ylabel().endswith("%")


def figures(runs: dict[str, Result], pipelined: Result) -> dict[str, Figure]:
    return {
        "latency": latency_cdfs(runs),
        "stalls": generation_stalls(runs),
        "memory": kv_and_queue(runs),
        "batches": batch_composition(runs["sarathi"]),
        "pipeline": pipeline_timeline(pipelined),
    }


def test_pictures_are_saved_in_both_formats_with_the_same_bytes_each_time(
    runs: dict[str, Result], pipelined: Result, tmp_path: Path
) -> None:
    first, second = figures(runs, pipelined), figures(runs, pipelined)
    for name, figure in first.items():
        assert all(axes.get_xlabel() or axes.get_ylabel() or name == "pipeline" for axes in figure.axes), name
        for file_format in ("png", "svg"):
            path = tmp_path / f"{name}.{file_format}"
            save(figure, path)
            assert path.read_bytes() == rendered(second[name], file_format)
        assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)
        ET.parse(tmp_path / f"{name}.svg")
    with pytest.raises(ValueError, match=r"x.pdf must end in .png or .svg"):
        save(first["latency"], tmp_path / "x.pdf")


def test_run_names_are_not_parsed_as_formulas(runs: dict[str, Result]) -> None:
    figure = latency_cdfs({"a$x^2$<b>&": runs["vllm"], "b": runs["sarathi"]}, ["ttft_s"])
    text = rendered(figure, "svg").decode()
    assert "a$x^2$&lt;b&gt;&amp;" in text


def test_steps_match_the_requests_and_iterations(runs: dict[str, Result], pipelined: Result) -> None:
    for run in (*runs.values(), pipelined):
        (replica,) = run.replicas
        tokens = output_tokens(run)
        assert tokens.value[-1] == run.requests["output_tokens"].sum()
        assert tokens.time_s[-1] == replica.logged.end_s.max()
        for steps in (queue_length(run), num_running(run, 0), blocks_used(run, 0)):
            assert steps.value.min() >= 0
            assert steps.value[-1] == 0
            assert (np.diff(steps.time_s) > 0).all()
        assert kv_use(run).value.max() == run.summary["kv_use"]["max"]
        waited = run.requests["first_scheduled_s"] - run.requests["arrival_s"]
        edges = np.array([0.0, run.end_s])
        assert queue_length(run).mean(edges)[0] * run.end_s == pytest.approx(waited.sum())


def test_means_and_maxima_of_steps_are_exact(runs: dict[str, Result]) -> None:
    steps = kv_use(runs["vllm"])
    edges = np.linspace(0, runs["vllm"].end_s * 1.1, 37)
    mean, largest = steps.mean(edges), steps.largest(edges)
    for index, (low, high) in enumerate(pairwise(edges)):
        inside = steps.time_s[(steps.time_s > low) & (steps.time_s < high)]
        marks = np.concatenate([[low], inside, [high]])
        before = np.searchsorted(steps.time_s, marks[:-1], side="right") - 1
        values = np.where(before < 0, 0.0, steps.value[before])
        assert mean[index] == pytest.approx(np.dot(values, np.diff(marks)) / (high - low), abs=1e-9)
        assert largest[index] == values.max()


def test_preempted_requests_wait_again() -> None:
    result = serve([(0.0, 40, 60), (0.1, 40, 60), (0.2, 40, 60)], VLLM(), num_blocks=12)
    assert result.summary["num_preemptions"] > 0
    queue = queue_length(result)
    assert queue.value.min() == queue.value[-1] == 0
    table = result.requests
    later = queue.time_s > np.nanmax(table["first_scheduled_s"])
    assert queue.value[later].max() >= 1


def test_a_whole_prompt_stalls_decodes_longer_than_a_chunk() -> None:
    requests = [(0.0, 16, 200), (1.0, 900, 5)]
    whole, chunks = serve(requests, VLLM()), serve(requests, Sarathi(token_budget=64))
    stall = longest_stall(whole)
    begin_s, length_s = stall.begin_s, stall.length_s
    prompt = int(whole.replicas[0].logged.columns["num_prefill_tokens"].argmax())
    prompt_s = whole.replicas[0].logged.end_s[prompt] - whole.replicas[0].logged.columns["start_s"][prompt]
    assert length_s > prompt_s > 0.1
    assert begin_s == pytest.approx(whole.replicas[0].logged.columns["start_s"][prompt])
    assert longest_stall(chunks).length_s < 0.03
    assert stalls(whole, 0)[1].max() == whole.summary["tbt_s"]["max"]


def test_stage_spans_do_not_overlap_and_busy_time_adds_only_sends(pipelined: Result) -> None:
    (replica,) = pipelined.replicas
    spans = replica.stage_spans
    assert spans is not None
    assert (spans[:, :-1, 1] <= spans[:, 1:, 0]).all()  # a batch passes the stages in order
    assert (spans[:-1, :, 1] <= spans[1:, :, 0]).all()  # a stage computes one batch at a time
    assert np.array_equal(spans[:, 0, 0], replica.logged.columns["start_s"])
    assert np.array_equal(spans[:, -1, 1], replica.logged.end_s)
    computed = (spans[:, :, 1] - spans[:, :, 0]).sum(axis=0)
    sent = [stage.busy_s for stage in replica.stages] - computed
    assert sent.min() > -1e-9
    assert sent[-1] == pytest.approx(0)


def test_a_pipeline_is_not_drawn_without_logged_stages() -> None:
    result = serve([(0.0, 16, 4)], Sarathi(), pp=2)
    with pytest.raises(ValueError, match="log_stages=True"):
        pipeline_timeline(result)


def test_the_knee_is_where_load_over_latency_is_largest() -> None:
    loads = np.linspace(0.1, 0.9, 81)
    around = knee(loads.tolist(), (1 / (1 - loads)).tolist())
    assert around is not None
    # In an M/M/1 queue, power is largest at half the capacity (Kleinrock 1979).
    assert loads[list(around)].tolist() == pytest.approx([0.49, 0.51])


def test_a_knee_is_the_interval_that_the_loads_leave_open() -> None:
    curve = [(1.0, 1.0), (2.0, 1.1), (4.0, 3.0), (8.0, 20.0)]
    axes = latency_against_load({"ttft_p90": {"vllm": curve}}).axes[0]
    assert axes.get_legend_handles_labels()[1] == ["knee between 1 and 4"]
    wide = max(axes.lines, key=lambda line: line.get_linewidth())
    assert wide.get_xdata().tolist() == [1.0, 2.0, 4.0]
    for end in ([(1.0, 1.0), (2.0, 1.1), (3.0, 1.2)], [(1.0, 1.0), (2.0, 5.0), (3.0, 20.0)]):
        assert not latency_against_load({"ttft_p90": {"vllm": end}}).axes[0].get_legend_handles_labels()[1]


def test_no_knee_is_drawn_at_loads_that_a_capacity_search_chose() -> None:
    curve = [(1.0, 1.0), (2.0, 1.1), (4.0, 3.0), (8.0, 20.0)]
    axes = latency_against_load({"ttft_p90": {"": curve}}, {"ttft_p90": 2.0}, capacity_qps=2.5).axes[0]
    assert not axes.get_legend_handles_labels()[1]


def test_no_knee_lies_beyond_an_overloaded_run() -> None:
    curve = [(1.0, 1.0), (2.0, 1.1), (4.0, 3.0), (8.0, 20.0)]
    axes = latency_against_load({"ttft_p90": {"vllm": curve}}, overloaded={"vllm": [4.0, 8.0]}).axes[0]
    assert not axes.get_legend_handles_labels()[1]


def test_capacities_are_drawn_in_order_of_their_bounds() -> None:
    axes = capacity_against_slo({"vllm": [(0.5, 2.0), (0.1, 1.0)]}, "tbt_p99", {"vllm": [(1.5, 2.5), (0.9, 1.1)]}).axes[
        0
    ]
    assert axes.lines[0].get_xdata().tolist() == [100.0, 500.0]
    assert axes.lines[0].get_ydata().tolist() == [1.0, 2.0]
    assert axes.get_xlabel() == "bound on P99 time between tokens, ms"
    bars = capacities({"vllm": {"strict": 1.0}, "sarathi": {"strict": 2.0, "relaxed": 3.0}}).axes[0].patches
    assert [bar.get_height() for bar in bars] == [1.0, 2.0, 3.0]


def test_a_run_without_a_token_can_be_drawn() -> None:
    result = serve([(0.0, 900, 10)], Sarathi(token_budget=64), time_limit_s=0.05)
    assert len(result.replicas[0].logged.end_s) > 0
    assert longest_stall(result) == Stall()
    for draw in (latency_cdfs, generation_stalls, kv_and_queue):
        assert rendered(draw({"run": result})).startswith(PNG)
    assert rendered(batch_composition(result)).startswith(PNG)


def test_a_pipeline_window_shows_every_batch_computed_in_it(pipelined: Result) -> None:
    (axes,) = pipeline_timeline(pipelined).axes
    begin_s, end_s = axes.get_xlim()
    spans = pipelined.replicas[0].stage_spans
    assert spans is not None
    computed_s = (spans.clip(begin_s, end_s)[:, :, 1] - spans.clip(begin_s, end_s)[:, :, 0]).sum()
    (label,) = [text.get_text() for text in axes.figure.legends[0].get_texts() if "not computing" in text.get_text()]
    assert label == f"not computing ({1 - computed_s / (4 * (end_s - begin_s)):.0%} of this window)"


def test_long_and_odd_names_are_legible(runs: dict[str, Result]) -> None:
    names = {"_hidden": runs["vllm"], f"{'a' * 40}{'b' * 40}": runs["sarathi"]}
    labels = [text.get_text() for text in latency_cdfs(names, ["ttft_s"]).legends[0].get_texts()]
    assert labels == [" _hidden", f"{'a' * 15}\N{HORIZONTAL ELLIPSIS}{'b' * 16}"]


def test_an_axis_has_at_least_two_tick_labels() -> None:
    for low, high in ((0.07, 0.1), (1.2, 4.5), (0.001, 900.0), (3.0, 8.0)):
        axes = latency_against_load({"ttft_p90": {"": [(1.0, low), (2.0, (low * high) ** 0.5), (3.0, high)]}}).axes[0]
        inside = [tick for tick in axes.get_yticks() if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
        assert 2 <= len(inside) <= 12, (low, high)
