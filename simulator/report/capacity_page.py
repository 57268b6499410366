"""Page of a capacity search."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from simulator.output import heading, read_json
from simulator.plot import trial_series
from simulator.report.charts import Axis, Chart, Key
from simulator.report.configuration_table import configuration_table
from simulator.report.page import Fact, Page
from simulator.report.series_charts import line_chart, objective_axis
from simulator.results import (
    bounds_text,
    figure,
    objective_label,
    objective_value,
    share,
    slo_text,
    trials_table,
)
from traces.shared.figure_style import GREY

KEYS = (
    *("capacity_qps", "confidence_interval_qps", "bracket_qps", "binding", "slo", "slo_is_default", "at_capacity"),
    *("request_bounds_s", "seeds", "trials", "warnings", "config", "choices", "groups"),
)


def capacity_page(name: str, folder: Path) -> Page:
    """Return the page of a capacity search.

    Args:
        name: Name of the search.
        folder: Its folder, with capacity.json.
    """
    capacity = read_json(folder / "capacity.json", *KEYS)
    table = trials_table(capacity["trials"], capacity["slo"])
    return Page(
        title=name,
        kind="Capacity",
        facts=[*(Fact(label, text) for label, text in heading(capacity).items()), Fact("SLO", _slo(capacity))],
        verdict=[("", sentence) for sentence in _verdict(capacity)],
        warnings=capacity["warnings"],
        launch=capacity.get("launch") or (),
        charts=list(_charts(capacity)),
        tables=[table],
        details=[configuration_table({"value": capacity["config"]}, only_differences=False)],
    )


def _slo(capacity: Mapping[str, Any]) -> str:
    bounds = slo_text(capacity["slo"], capacity["request_bounds_s"])
    return bounds + (" (the default: no objective was given)" if capacity["slo_is_default"] else "")


def _verdict(capacity: Mapping[str, Any]) -> Iterator[str]:
    text = f"{figure(capacity['capacity_qps'])} requests/s within {bounds_text(capacity['slo'])}"
    if capacity["confidence_interval_qps"] is not None:
        low, high = map(figure, capacity["confidence_interval_qps"])
        text += f" (95 % confidence, {len(capacity['seeds'])} seeds: {low} to {high})"
    missed_qps = capacity["bracket_qps"][1]
    if missed_qps is not None:
        text += f"; bound by {objective_label(capacity['binding'])}, missed at {figure(missed_qps)} requests/s"
    yield f"{text}."
    best = capacity["at_capacity"]
    if best is None:
        return
    values = ", ".join(
        f"{objective_label(name)} {objective_value(name, value)}" for name, value in best["values"].items()
    )
    text = f"At the capacity, {values}"
    if best["goodput"] is not None:
        within = bounds_text(capacity["request_bounds_s"])
        rate = "" if best["goodput_qps"] is None else f" ({figure(best['goodput_qps'])} requests/s)"
        text += f"; goodput {share(best['goodput'])}{rate}, within {within}"
    yield f"{text}."


def _charts(capacity: Mapping[str, Any]) -> Iterator[Chart]:
    for objective, curves in trial_series(capacity).items():
        if not curves:
            continue
        is_log = all(value > 0 for curve in curves.values() for _, value in curve)
        axis, factor = objective_axis(objective, is_log)
        scaled = {name: [(x, factor * y) for x, y in curve] for name, curve in curves.items()}
        rules = {"width": factor * capacity["slo"][objective], "height": capacity["capacity_qps"]}
        chart = line_chart(f"{axis.quantity} against load", (Axis("load, requests/s"), axis), scaled, rules=rules)
        yield replace(chart, keys=[*chart.keys, Key("bound and capacity", GREY, "6 4")])
