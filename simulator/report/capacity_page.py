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
from simulator.results import capacity_facts, trials_table
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
        facts=[Fact(label, text) for label, text in heading(capacity).items()],
        verdict=list(capacity_facts(capacity)),
        warnings=capacity["warnings"],
        launch=capacity.get("launch") or (),
        charts=list(_charts(capacity)),
        tables=[table],
        details=[configuration_table({"value": capacity["config"]}, only_differences=False)],
    )


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
