"""Plots like the paper's figures.

Published numbers are pale or dashed, with the simulated ones next to them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from simulator.reproduce import published as paper
from simulator.reproduce.figures import Row
from traces.shared.figure_style import COLOURS as SERIES
from traces.shared.figure_style import grid, make_logarithmic, save, set_title, styled

COLOURS = {"orca": SERIES[2], "vllm": SERIES[1], "sarathi": SERIES[0]}
NAMES = {
    "orca": "Orca",
    "vllm": "vLLM",
    "sarathi": "Sarathi",
    paper.CHAT: "openchat_sharegpt4",
    paper.ARXIV: "arxiv_summarization",
    "hybrid_batching_only": "hybrid batching only",
    "chunked_prefills_only": "chunked prefills only",
    **{policy: f"vLLM, batches up to {policy.rpartition('_')[2]}" for policy in ("vllm_32", "vllm_64", "vllm_128")},
    **{policy: f"Sarathi, budget {policy.rpartition('_')[2]}" for policy in ("sarathi_512", "sarathi_2048")},
}
# By metric: label of the axis, and the factor from the unit of the rows to that of the axis.
METRICS = {
    "capacity_qps": ("capacity, requests/s", 1.0),
    "ttft_p50_s": ("median TTFT, s", 1.0),
    "tbt_p50_s": ("median TBT, ms", 1e3),
    "tbt_p99_s": ("P99 TBT, ms", 1e3),
    "chunked_over_whole": ("time of all chunks / whole prompt", 1.0),
    "flop_per_byte": ("FLOP/byte", 1.0),
    "balance_tokens": ("tokens at the ridge point", 1.0),
    "decode_only_ms": ("decodes alone, ms", 1.0),
    "decode_plus_chunk_ms": ("with a chunk, ms", 1.0),
    "decode_plus_full_ms": ("with a whole prompt, ms", 1.0),
    "linear_ms": ("linear layers, ms", 1.0),
}
TITLES = {
    "5": "arithmetic intensity of the linear layers, and tokens at the ridge point",
    "6": "time of the linear layers of an iteration, LLaMA2-70B on A100",
    "9": "iteration time of decodes alone, with a chunk and with a whole prompt",
    "10": "capacity within the SLO, Mistral-7B and Yi-34B",
    "11": "capacity within the SLO, LLaMA2-70B and Falcon-180B",
    "12": "capacity against the bound on P99 TBT, Mistral-7B and Yi-34B",
    "13": "tensor against pipeline parallelism, Falcon-180B on two machines",
    "14": "overhead of chunked prefills, Yi-34B",
    "table 4": "ablation of hybrid batching and chunked prefills, Yi-34B",
}
PALE = 0.35


def draw(figure: str, rows: Sequence[Row], folder: Path) -> Path:
    """Draw one figure or table and return the path of its file."""
    path = folder / f"{figure.replace(' ', '_') if figure.startswith('table') else f'figure_{figure}'}.png"
    save(picture(figure, rows), path)
    return path


@styled
def picture(figure: str, rows: Sequence[Row]) -> Figure:
    """Draw one figure or table.

    Args:
        figure: One of `figures.FIGURES`.
        rows: Rows of this figure; those of other figures are ignored.
    """
    drawn = [row for row in rows if row.figure == figure and not row.metric.startswith("speedup")]
    painters: dict[str, Callable[[Sequence[Row]], Figure]] = {
        "10": _capacities,
        "11": _capacities,
        "12": _figure_12,
        "13": _figure_13,
        "14": _figure_14,
        "6": _figure_6,
    }
    painted = painters.get(figure, _pairs)(drawn)
    number = figure if figure.startswith("table") else f"figure {figure}"
    set_title(painted, f"Sarathi-Serve (OSDI 2024), {number}: {TITLES[figure]}")
    return painted


def _bars(axes: Any, groups: Sequence[str], series: Sequence[tuple[str, str, Sequence[Row]]], metric: str) -> None:
    """Draw groups of bars, a published and a simulated one per series.

    The published value is pale, the simulated one in full colour.
    """
    label, factor = METRICS[metric]
    width = 0.8 / (2 * len(series))
    for index, (name, colour, rows) in enumerate(series):
        for shift, (attribute, alpha, source) in enumerate((("paper", PALE, "paper"), ("simulated", 1.0, "simulated"))):
            x = [number - 0.4 + (2 * index + shift + 0.5) * width for number in range(len(groups))]
            heights = [factor * getattr(row, attribute) for row in rows]
            legend = f"{name}, {source}" if name else source
            bars = axes.bar(x, heights, width, color=colour, alpha=alpha, label=legend)
            axes.bar_label(bars, list(map(_number, heights)), fontsize=7, rotation=90, padding=2)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel(label)
    axes.margins(y=0.35)
    axes.grid(visible=False, axis="x")


def _number(value: float) -> str:
    """Return a value of a bar to three digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _capacities(rows: Sequence[Row]) -> Figure:
    models = list(dict.fromkeys(row.model for row in rows))
    traces = (paper.CHAT, paper.ARXIV)
    figure, panels = grid(len(traces), len(models), height=2.6)
    for number, trace in enumerate(traces):
        for axes, model in zip(panels[number * len(models) :], models, strict=False):
            series = []
            for scheduler, colour in COLOURS.items():
                cells = [row for row in rows if (row.model, row.trace, row.scheduler) == (model, trace, scheduler)]
                series.append((NAMES[scheduler], colour, sorted(cells, key=lambda row: paper.SLOS.index(row.slo))))
            _bars(axes, [f"{slo} SLO" for slo in paper.SLOS], series, "capacity_qps")
            axes.set_title(f"{model}, {NAMES[trace]}", loc="left")
    figure.legend(*panels[0].get_legend_handles_labels(), ncols=3, loc="outside lower left")
    return figure


def _lines(axes: Any, x: Sequence[float], rows: Sequence[Row], colour: str, label: str) -> None:
    """Draw published values dashed and simulated ones solid."""
    _, factor = METRICS[rows[0].metric]
    published, simulated = ([factor * getattr(row, name) for row in rows] for name in ("paper", "simulated"))
    axes.plot(x, published, "o--", color=colour, alpha=0.6, markersize=4, label=f"{label}, paper")
    axes.plot(x, simulated, "s-", color=colour, markersize=4, label=f"{label}, simulated")


def _figure_12(rows: Sequence[Row]) -> Figure:
    colours = dict(zip(paper.FIGURE_12_POLICIES, (SERIES[2], SERIES[1], SERIES[3], SERIES[0], SERIES[4]), strict=True))
    figure, panels = grid(1, len(paper.FIGURE_12), height=4.0)
    for axes, (model, by_bound) in zip(panels, paper.FIGURE_12.items(), strict=True):
        for policy, colour in colours.items():
            cells = [row for row in rows if row.model == model and row.scheduler == policy]
            _lines(axes, [1e3 * bound_s for bound_s in by_bound], cells, colour, NAMES[policy])
        axes.set_title(f"{model}, {NAMES[paper.CHAT]}", loc="left")
        axes.set(xlabel="bound on P99 TBT, ms", ylabel=METRICS["capacity_qps"][0])
        axes.set_ylim(bottom=0)
    figure.legend(*panels[0].get_legend_handles_labels(), ncols=2, loc="outside lower left")
    return figure


def _figure_13(rows: Sequence[Row]) -> Figure:
    figure, (left, right) = grid(1, 2, height=3.8)
    for layout, colour in (("TP8", SERIES[1]), ("TP4-PP2", SERIES[0])):
        cells = [row for row in rows if row.metric == "tbt_p50_s" and row.scheduler.startswith(layout)]
        _lines(left, paper.FIGURE_13_BATCHES, cells, colour, layout)
    left.set_xscale("log", base=2)
    left.set_xticks(paper.FIGURE_13_BATCHES, [str(batch) for batch in paper.FIGURE_13_BATCHES])
    left.set(xlabel="largest batch, requests", ylabel=METRICS["tbt_p50_s"][0])
    left.set_ylim(bottom=0)
    cells = [row for row in rows if row.metric == "capacity_qps"]
    names = list(dict.fromkeys(row.scheduler for row in cells))
    series = [
        (f"{slo} SLO", colour, [row for name in names for row in cells if row.scheduler == name and row.slo == slo])
        for slo, colour in zip(paper.SLOS, (SERIES[3], SERIES[4]), strict=True)
    ]
    _bars(right, list(map(_words, names)), series, "capacity_qps")
    figure.legend(*left.get_legend_handles_labels(), ncols=2, loc="outside lower left")
    figure.legend(*right.get_legend_handles_labels(), ncols=2, loc="outside lower right")
    return figure


def _figure_14(rows: Sequence[Row]) -> Figure:
    """Draw the prompts of the paper's bars and those of its artifact."""
    figure, panels = grid(1, 2, height=3.4)
    by_prompt = dict(zip(paper.FIGURE_14, rows, strict=True))
    chunks = sorted({chunk for _, chunk in by_prompt})
    for axes, title in zip(panels, ("the paper's bars", "measurements of its artifact"), strict=True):
        in_bars = axes is panels[0]
        prompts = sorted({prompt for prompt, _ in by_prompt if (prompt % 2 == 0) == in_bars})
        for chunk, colour in zip(chunks, SERIES, strict=False):
            _lines(axes, prompts, [by_prompt[prompt, chunk] for prompt in prompts], colour, f"chunks of {chunk:,}")
        axes.set_xscale("log", base=2)
        axes.set_xticks(prompts, [f"{prompt:,}" for prompt in prompts])
        axes.set(xlabel="tokens of the prompt", ylabel=METRICS["chunked_over_whole"][0])
        axes.set_title(title, loc="left")
    figure.legend(*panels[0].get_legend_handles_labels(), ncols=3, loc="outside lower left")
    return figure


def _figure_6(rows: Sequence[Row]) -> Figure:
    figure, (axes,) = grid(1, 1, height=3.6)
    tokens = list(paper.FIGURE_6)
    for layout, colour in (("TP2", SERIES[1]), ("TP4", SERIES[0])):
        _lines(axes, tokens, [row for row in rows if row.scheduler.startswith(layout)], colour, layout)
    make_logarithmic(axes, x=True, y=True)
    powers = [count for count in tokens if count & (count - 1) == 0]
    axes.set_xticks(powers, [f"{power:,}" for power in powers])
    axes.set(xlabel="tokens in the batch", ylabel=METRICS["linear_ms"][0])
    figure.legend(*axes.get_legend_handles_labels(), ncols=2, loc="outside lower left")
    return figure


def _pairs(rows: Sequence[Row]) -> Figure:
    """Draw paired bars, one panel for each metric, model and trace.

    It can draw any rows.
    """
    panels = list(dict.fromkeys((row.metric, row.model, row.trace) for row in rows))
    figure, all_axes = grid(len(panels), 1, height=2.2)
    for axes, (metric, model, trace) in zip(all_axes, panels, strict=True):
        cells = [row for row in rows if (row.metric, row.model, row.trace) == (metric, model, trace)]
        names = [_words(row.scheduler) for row in cells]
        _bars(axes, names, [("", SERIES[0], cells)], metric)
        axes.set_title(", ".join(filter(None, (model, NAMES.get(trace, trace)))), loc="left")
    figure.legend(*all_axes[0].get_legend_handles_labels(), ncols=2, loc="outside lower left")
    return figure


def _words(group: str) -> str:
    """Return the name of a group in words, one part a line."""
    return "\n".join(NAMES.get(part, part) for part in group.split(", "))
