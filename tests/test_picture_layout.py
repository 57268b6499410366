"""Pictures can be read at the size at which pages show them."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure
from matplotlib.text import Text

from simulator import Result, simulate
from simulator.compare.drawing import draw as draw_comparison
from simulator.compare.runs import read_run
from simulator.config import CONFIG_DIR, build_prediction, load_config
from simulator.iteration_time import time_breakdown
from simulator.model import Device
from simulator.plot import (
    batch_composition,
    capacities,
    capacity_against_slo,
    cost_against_latency,
    generation_stalls,
    kv_and_queue,
    latency_against_load,
    latency_cdfs,
    prefix_cache,
    roofline,
)
from simulator.plot.pictures import pictures_of
from simulator.replica import Batch
from simulator.reproduce.drawing import picture
from simulator.reproduce.figures import FIGURES, Row, plan
from simulator.results import PricedPoint
from simulator.token_budget.drawing import draw as draw_budget
from tests.helpers import write_run
from traces import Trace
from traces.shared import figure_style
from traces.shared.figure_style import WIDTH, rendered, set_title
from traces.tools import drawing as trace_drawing

# Width at which pages show figures, and the smallest letters that can be read at it, pixels.
SHOWN, SMALLEST = 800, 9.5


@pytest.fixture(scope="module")
def runs() -> dict[str, Result]:
    few = ("trace=sharegpt", "trace.num_requests=30", "arrival.qps=4")
    names = ("vllm", "sarathi", "orca", "vllm_v1")
    return {
        f"{name}, a long name that says all that differs between them": simulate(
            **load_config(f"scheduler={name}", "model=llama3_8b", "device=h100_sxm", *few)
        )
        for name in names
    }


def texts(figure: Figure) -> list[Text]:
    """Return the texts that are drawn, with the figure laid out."""
    figure.draw_without_rendering()
    hidden = [
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
        for label in (tick.label1, tick.label2)
    ]
    visible = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_visible()]
    return [text for text in visible if text.get_text().strip() and text not in hidden]


def assert_legible(figure: Figure) -> None:
    """Assert that no two texts overlap, none leaves the figure or is too small, and none is raw TeX."""
    shrunk = min(1.0, SHOWN / (figure.get_figwidth() * figure_style.DPI))
    # That of an annotation would include its line.
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in texts(figure)]
    assert boxes
    for (first, box), (second, other) in combinations(boxes, 2):
        inside = box.x0 + 1 < other.x1 and other.x0 + 1 < box.x1 and box.y0 + 1 < other.y1 and other.y0 + 1 < box.y1
        assert not inside, f"{first!r} is over {second!r}"
    for text, box in boxes:
        assert box.x0 > -1, text
        assert box.x1 < figure.bbox.x1 + 1, text
        assert box.y0 > -1, text
        assert box.y1 < figure.bbox.y1 + 1, text
    sizes = [text.get_fontsize() / 72 * figure_style.DPI * shrunk for text in texts(figure)]
    assert min(sizes) >= SMALLEST
    assert "\\" not in "".join(text for text, _ in boxes)
    assert not [axes for axes in figure.axes if not axes.has_data()]


def test_pictures_of_several_runs_with_long_names_are_legible(runs: dict[str, Result]) -> None:
    caching = {name: run for name, run in runs.items() if run.summary["prefix_cache"] is not None}
    for shown in (runs, dict(list(runs.items())[:2]), dict(list(runs.items())[:1])):
        for draw in (latency_cdfs, generation_stalls, kv_and_queue):
            assert_legible(draw(shown))
    assert_legible(prefix_cache(caching))
    assert_legible(batch_composition(runs[next(iter(runs))]))


def test_several_runs_have_a_row_each_with_the_same_axes(runs: dict[str, Result]) -> None:
    figure = kv_and_queue(runs)
    assert len(figure.axes) == 2 * len(runs)
    for column in (figure.axes[::2], figure.axes[1::2]):
        assert len({axes.get_ylim() for axes in column}) == len({axes.get_xlim() for axes in column}) == 1
        highest = max(float(line.get_ydata().max()) for axes in column for line in axes.lines)
        assert column[0].get_ylim()[1] >= highest


def deployments(count: int) -> list[PricedPoint]:
    """Return deployments of a front whose points are close together, and others."""
    front = [
        PricedPoint(
            "h100_sxm", f"{n} x TP2 PP1, sarathi 1024", 3 + 0.02 * n, {"tbt_p99": 0.19 - 0.002 * n}, True, ["tbt_p99"]
        )
        for n in range(count)
    ]
    missed = PricedPoint("a100_80gb_sxm", "1 x TP1 PP1, vllm", 2.0, {"tbt_p99": 0.4}, False, [])
    return [*front, missed]


def test_labels_of_a_front_neither_overlap_nor_leave_their_panel() -> None:
    figure = cost_against_latency(deployments(8), {"tbt_p99": 0.2})
    assert_legible(figure)
    box = figure.axes[0].get_window_extent()
    numbers = [text for text in figure.axes[0].texts if text.get_text().isdecimal()]
    assert [text.get_text() for text in numbers] == [str(number) for number in range(1, 9)]
    for text in numbers:
        extent = Text.get_window_extent(text)
        assert text.get_rotation() == 0
        assert box.x0 <= extent.x0 < extent.x1 <= box.x1
    listed = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert "1:  $3.00/h, h100_sxm, 0 x TP2 PP1, sarathi 1024" in listed


def test_sweeps_are_legible() -> None:
    curve = [(1.0, 0.01), (2.0, 0.02), (3.0, 0.5), (4.0, 90.0)]
    named = {"vllm, parallel.tp=2, cluster.replicas=4": curve, "sarathi, parallel.tp=2": curve[:3]}
    assert_legible(latency_against_load({"ttft_p90": named, "tbt_p99": named, "e2e_p50": named}))
    assert_legible(latency_against_load({"tbt_p99": {"": curve}}, {"tbt_p99": 0.2}, 2.5))
    assert_legible(capacity_against_slo(named, "tbt_p99"))
    groups = {f"sharegpt, paper_{slo}, model={model}": 1.0 for slo in ("strict", "relaxed") for model in "abc"}
    assert_legible(capacities({"vllm": groups, "sarathi": groups}))


def prediction(*overrides: str, prefill: list[tuple[int, int]], decode: list[tuple[int, int]]) -> tuple[Device, Any]:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        built = build_prediction(compose("predict", overrides=[*overrides, "decode=[[1,1]]"]))
    return built["device"], time_breakdown(built["stage_times"], built["device"], Batch.of(prefill, decode))


FP8 = ("model=llama3_70b", "model.dtype=fp8", "device=h100_sxm", "engine=vllm_v1", "parallel.tp=4")
FP4 = ("model=llama3_70b", "model.dtype=nvfp4", "kv_cache.dtype=fp8", "device=b200_sxm", "engine=vllm_v1")
FP8_KV = ("model=qwen3_32b", "kv_cache.dtype=fp8", "device=rtx4090", "engine=vllm_v1", "parallel.tp=4")
HALF = ("model=llama2_70b", "parallel.tp=4")


@pytest.mark.parametrize("overrides", [FP8, FP4, FP8_KV, HALF])
def test_no_kernel_is_above_the_roof_of_its_format(overrides: tuple[str, ...]) -> None:
    batches = {}
    for prefill, decode in (([(2048, 0)], [(32, 4000)]), ([(512, 15000)], [(8, 2000)]), ([], [(64, 1000)])):
        device, batch = prediction(*overrides, prefill=prefill, decode=decode)
        batches[f"{prefill} {decode}"] = batch
    figure = roofline(device, batches)
    assert_legible(figure)
    (axes,) = figure.axes
    roofs = {re.search(r"roof of ([^:]*):", line.get_label())[1]: line for line in axes.lines}  # type: ignore[index]
    assert len(axes.collections) > 5
    for point in axes.collections:
        intensity, tflops = point.get_offsets()[0]
        peak = max(roofs[point.get_gid()].get_ydata())
        assert tflops <= 1.01 * min(peak, intensity * device.bandwidth_gb_per_s / 1e3), point.get_gid()


def test_each_operator_has_the_peak_of_the_format_in_which_it_multiplies() -> None:
    device, batch = prediction(*FP8, prefill=[(2048, 0)], decode=[(32, 4000)])
    rows = {row["name"]: row for row in batch["operators"]}
    assert device.tflops("fp8") > 1.9 * device.peak_tflops
    for name, dtype in (
        ("qkv_proj", "fp8"),
        ("gate_up_proj", "fp8"),
        ("prefill_attention", "bf16"),
        ("lm_head", "bf16"),
    ):
        assert rows[name]["dtype"] == dtype
        assert rows[name]["compute_s"] == pytest.approx(rows[name]["flops"] / (device.tflops(dtype) * 1e12))
    assert set(batch["ridge_flop_per_byte"]) == {"fp8", "bf16"}
    assert rows["add_norm"]["flops"] == 0
    # An fp8 KV cache is multiplied in fp8 where its kernels were measured; the A100 has no fp8 units.
    _, batch = prediction(*FP8, "kv_cache.dtype=fp8", prefill=[(2048, 0)], decode=[])
    assert {row["dtype"] for row in batch["operators"] if row["name"] == "prefill_attention"} == {"fp8"}
    on_a100 = ("model=llama3_8b", "model.dtype=fp8", "device=a100_80gb_sxm", "engine=vllm_v1")
    _, batch = prediction(*on_a100, prefill=[(2048, 0)], decode=[])
    assert set(batch["ridge_flop_per_byte"]) == {"bf16"}


def test_describe_draws_no_tex_and_plain_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(trace_drawing, "save", lambda figure, _: figures.append(figure))
    trace = load_config("trace=sharegpt", "trace.num_requests=3000", "arrival=gamma", "arrival.cv=8")["trace"]
    assert isinstance(trace, Trace)
    for shown in (trace, load_config("trace=sharegpt", "trace.num_requests=9")["trace"]):
        trace_drawing.draw(shown, "a trace", tmp_path / "a.png")
        assert_legible(figures[-1])
        svg = rendered(figures[-1], "svg").decode()
        assert "$" not in svg
        assert "mathdefault" not in svg
        assert "e-0" not in re.sub(r"<[^>]*>", "", svg)


@pytest.mark.parametrize("figure", FIGURES)
def test_reproduced_figures_have_titles_and_axes_in_words(figure: str) -> None:
    rows = [Row(**{**vars(planned.row), "simulated": 1.3 * planned.row.paper}) for planned in plan(figure, ())]
    drawn = picture(figure, rows)
    assert_legible(drawn)
    title = drawn.get_suptitle()
    assert re.match(r"Sarathi-Serve \(OSDI 2024\), (figure \d+|table 4): \w+ \w+", title)
    labels = [axes.get_ylabel() for axes in drawn.axes] + [axes.get_xlabel() for axes in drawn.axes]
    assert not [label for label in labels if "_" in label]


def test_each_picture_says_what_it_is_of(tmp_path: Path) -> None:
    few = ("trace=sharegpt", "trace.num_requests=12", "arrival.qps=2", "model=llama3_8b", "device=h100_sxm")
    write_run(tmp_path / "sarathi", *few, "scheduler=sarathi")
    write_run(tmp_path / "v1", *few, "scheduler=vllm_v1")
    drawn = {name: draw() for _, name, draw in pictures_of({"a": tmp_path / "sarathi", "b": tmp_path / "v1"}, [])}
    assert "roofline_b" in drawn  # its engine's memory has integer keys
    for name, figure in drawn.items():
        title = figure.get_suptitle()
        assert "llama3_8b" in title, name
        assert "1 x h100_sxm TP1" in title
        assert " requests/s" in title.replace("\n", " ")
        assert ("Sarathi" in title) == name.endswith("_a")
        assert_legible(figure)
    assert "512 tokens" in drawn["batches_a"].get_suptitle().replace("\n", " ")


def test_a_comparison_names_latencies_with_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "run", "trace=sharegpt", "trace.num_requests=12")
    figures: list[Figure] = []
    monkeypatch.setattr("simulator.compare.drawing.save", lambda figure, _: figures.append(figure))
    draw_comparison([read_run(tmp_path / "run")] * 3, tmp_path / "a.png")
    assert_legible(figures[0])
    labels = [axes.get_ylabel() for axes in figures[0].axes]
    assert labels[:3] == ["time to first token, s", "time between tokens, ms", "time per output token, ms"]
    bars = figures[0].axes[1].patches
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert bars[0].get_height() == pytest.approx(1e3 * summary["tbt_s"]["mean"])


def test_close_token_budgets_do_not_crowd_the_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr("simulator.token_budget.drawing.save", lambda figure, _: figures.append(figure))
    curve = {tokens: 0.01 + 1e-4 * tokens for tokens in range(1, 8193)}
    capacities_by_budget = dict.fromkeys((128, 1024, 4096, 7168, 7680, 7808, 7936, 8064, 8192), 1.0)
    draw_budget(curve, 1.0, 8192, capacities_by_budget, "mistral_7b", tmp_path / "a.png")
    draw_budget(curve, 1.0, None, {}, "mistral_7b", tmp_path / "a.png")
    for figure in figures:
        assert_legible(figure)
        assert "mistral_7b" in figure.get_suptitle()


def test_a_long_heading_is_wrapped_within_the_figure() -> None:
    figure, _ = figure_style.grid(1, 1)
    set_title(figure, "What it shows", "model on devices, " * 20)
    figure.draw_without_rendering()
    (title,) = [text for text in figure.texts if text.get_text().startswith("What")]
    assert title.get_window_extent().x1 < figure.bbox.x1
    assert figure.get_figwidth() == WIDTH
