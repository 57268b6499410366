"""Page of a search for the cheapest deployment."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from simulator.output import heading, read_json
from simulator.plot import priced_points
from simulator.report.configuration_table import configuration_table
from simulator.report.page import Fact, Page
from simulator.report.series_charts import pareto_chart
from simulator.results import (
    Column,
    PricedPoint,
    deployment_label,
    deployments_table,
    dollars,
    objective_label,
    objective_value,
    slo_text,
    table_of,
)

KEYS = ("cheapest", "slo", "num_deployments", "warnings", "pruned", "config")


def search_page(name: str, folder: Path) -> Page:
    """Return the page of a search.

    Args:
        name: Name of the search.
        folder: Its folder, with search.json and search.csv.
    """
    search = read_json(folder / "search.json", *KEYS)
    bounds = search["slo"]
    deployments = list(priced_points(folder, list(bounds)))
    layouts = (Column("name", "layout", str), Column("reason", "reason", str))
    ruled_out = [table_of("Layouts ruled out", layouts, search["pruned"])] if search["pruned"] else []
    configuration = configuration_table({"value": search["config"]}, only_differences=False)
    return Page(
        title=name,
        kind="Search for the cheapest deployment",
        facts=list(_facts(search)),
        verdict=[("", sentence) for sentence in _verdict(search, deployments)],
        warnings=search["warnings"],
        launch=search.get("launch") or (),
        charts=[pareto_chart(deployments, objective, bound) for objective, bound in bounds.items()],
        tables=[deployments_table("Deployments", deployments, bounds, _name(search["cheapest"]))],
        details=[*ruled_out, configuration],
    )


def _facts(search: Mapping[str, Any]) -> Iterator[Fact]:
    yield Fact("model", str(search["config"]["model"].get("name", "")))
    yield Fact("load", heading(_with_rate(search))["load"])
    yield Fact("SLO", slo_text(search["slo"], search.get("request_bounds_s", {})))


def _with_rate(search: Mapping[str, Any]) -> dict[str, Any]:
    """Return a search with its rate as a number.

    None: all at once. Infinite rates are saved as text, and those of requests that wait for answers not at all.
    """
    known = {key: value for key, value in search.items() if key != "arrivals_per_s"}
    rates = (search.get("arrivals_per_s"), search["config"]["arrival"].get("qps"))
    rate = next((float(rate) for rate in rates if rate is not None), 0.0)
    return known | ({"arrivals_per_s": rate if math.isfinite(rate) else None} if rate else {})


def _name(best: Mapping[str, Any] | None) -> str:
    """Return the name of the cheapest deployment; empty: there is none."""
    if best is None:
        return ""
    layout = deployment_label(*(best[key] for key in ("replicas", "tp", "pp", "scheduler", "token_budget")))
    return f"{best['device']}, {layout}"


def _verdict(search: Mapping[str, Any], deployments: Sequence[PricedPoint]) -> Iterator[str]:
    best = search["cheapest"]
    if best is None:
        yield f"None of the {search['num_deployments']:,} simulated deployments meets the SLO."
        return
    values = ", ".join(
        f"{objective_label(name)} {objective_value(name, value)}" for name, value in best["values"].items()
    )
    price = dollars(best["cost_per_hour_usd"])
    yield f"Cheapest within the SLO: {price}/h, {_name(best)}, with {values}."
    others: dict[str, PricedPoint] = {}
    for point in sorted(deployments, key=lambda point: point.cost_per_hour_usd):
        if point.met and point.device != best["device"]:
            others.setdefault(point.device, point)
    for point in others.values():
        ratio = point.cost_per_hour_usd / best["cost_per_hour_usd"]
        yield f"Cheapest on {point.device}: {dollars(point.cost_per_hour_usd)}/h ({ratio:.2g} times), {point.label}."
    num_met = sum(point.met for point in deployments)
    yield f"{num_met:,} of {len(deployments):,} simulated deployments meet the SLO."
