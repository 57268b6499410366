"""Charts of pipelines: time of the stages, and their batches."""

from collections.abc import Iterator

import numpy as np
from bokeh.models import ColumnDataSource, Range1d

from simulator.plot import neighbours, typical_iteration
from simulator.report.charts import Axis, Chart, Key, add_tooltips, new_drawing
from simulator.results import STAGE_SHARES, ReplicaResult, Result
from traces.shared.figure_style import DECODE, IDLE, PROMPT

_COLOURS = dict(zip(STAGE_SHARES, (DECODE, IDLE, "#c0392b", "#56B4E9", "#DDAA33", "#BB5566"), strict=True))
_BATCHES_SHOWN = 120


def pipeline_charts(result: Result, name: str) -> Iterator[Chart]:
    """Yield the charts of the first replica with a pipeline.

    Args:
        result: The run.
        name: Its name; empty: there is no other run.
    """
    chosen = (
        number
        for number, replica in enumerate(result.replicas)
        if replica.placement.pp > 1 and replica.stage_spans is not None and len(replica.logged.end_s)
    )
    number = next(chosen, None)
    if number is None:
        return
    several = len(result.replicas) > 1
    about = "".join(f": {part}" for part in (name, f"replica {number}" if several else "") if part)
    yield _shares(result.summary["replicas"][number]["stages"], f"Time of pipeline stages{about}")
    yield _batches(result.replicas[number], f"Batches in the pipeline{about}")


def _shares(stages: list[dict[str, float]], title: str) -> Chart:
    """Draw how each stage spent its time, as stacked bars."""
    present = [share for share in STAGE_SHARES if any(stage[share] > 0.0005 for stage in stages)]
    columns = {share: [100 * stage[share] for stage in stages] for share in present}
    names = [f"stage {number}" for number in range(len(stages))]
    source = ColumnDataSource({"stage": names, **columns})
    axis = Axis("share of the run, %", "0.[0]")
    drawing = new_drawing(axis, Axis("", digits=""), height=90 + 34 * len(stages), y_range=names[::-1])
    drawing.y_range.range_padding = 0.1
    drawing.hbar_stack(present, y="stage", height=0.75, color=[_COLOURS[share] for share in present], source=source)
    lines = [(share.replace("_", " "), f"@{{{share}}}{{0.0}} %") for share in present]
    add_tooltips(drawing, drawing.renderers, [("", "@stage"), *lines])
    drawing.x_range.start, drawing.x_range.end = 0, 100
    keys = [Key(share.replace("_", " "), _COLOURS[share], is_area=True) for share in present]
    return Chart(title, drawing, keys, is_wide=True)


def _batches(replica: ReplicaResult, title: str) -> Chart:
    """Draw when each stage computes which batch; gaps are bubbles."""
    spans, columns = replica.stage_spans, replica.logged.columns
    assert spans is not None
    shown = neighbours(typical_iteration(replica), len(spans), _BATCHES_SHOWN)
    num_stages = spans.shape[1]
    stage = np.tile(np.arange(num_stages), len(shown))
    iteration = np.repeat(shown, num_stages)
    begin_s, end_s = spans[shown].reshape(-1, 2).T
    prompt, decodes = columns["num_prefill_tokens"][iteration], columns["num_decodes"][iteration]
    data = {
        "left": begin_s,
        "right": end_s,
        "top": -stage + 0.38,
        "bottom": -stage - 0.38,
        "colour": np.where(prompt > 0, PROMPT, DECODE).tolist(),
        "stage": stage,
        "iteration": iteration,
        "prompt": prompt,
        "decodes": decodes,
        "ms": 1e3 * (end_s - begin_s),
    }
    source = ColumnDataSource(data)
    time = Axis("time, s")
    middle = len(shown) * num_stages // 2
    window_s = (begin_s[max(0, middle - 12 * num_stages)], end_s[min(len(end_s) - 1, middle + 12 * num_stages)])
    drawing = new_drawing(time, Axis("", digits=""), height=90 + 34 * num_stages, x_range=Range1d(*window_s))
    ticks = list(range(0, -num_stages, -1))
    drawing.yaxis.ticker = ticks
    drawing.yaxis.major_label_overrides = {tick: f"stage {-tick}" for tick in ticks}
    bars = drawing.quad("left", "right", "top", "bottom", source=source, fill_color="colour", line_color="white")
    lines = [
        ("stage", "@stage"),
        ("iteration", "@iteration{0,0}"),
        ("prompt tokens", "@prompt{0,0}"),
        ("decodes", "@decodes{0,0}"),
        ("takes", "@ms{0,0.0} ms"),
    ]
    add_tooltips(drawing, [bars], lines)
    keys = [Key("batch with prompt tokens", PROMPT, is_area=True), Key("decodes only", DECODE, is_area=True)]
    note = f"iterations {shown[0]:,} to {shown[-1]:,}, zoomed into their middle; gaps are bubbles"
    return Chart(title, drawing, keys, note, is_wide=True)
