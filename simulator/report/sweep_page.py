"""Page of a sweep over runs or capacities."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from simulator.output import heading, read_json
from simulator.plot import (
    Job,
    capacity_curves,
    load_series,
    name_of,
    overloaded_loads,
    read_sweep,
)
from simulator.report.charts import Axis, Chart
from simulator.report.page import Fact, Page
from simulator.report.series_charts import bar_chart, line_chart, objective_axis
from simulator.report.verdict import Scale, compared
from simulator.results import dollars, figure, jobs_table, objective_label, share

LOAD = "arrival.qps"
# Choices whose names stand with the options that are their own.
_POLICIES = ("scheduler", "cluster.router")
_COMPARED = (
    ("tbt_s.p99", Scale("TBT p99")),
    ("ttft_s.p90", Scale("TTFT p90")),
    ("e2e_s.p50", Scale("E2E p50")),
    ("slo.goodput", Scale("goodput", share, True)),
    ("cluster.cost_per_million_output_tokens_usd", Scale("cost per million output tokens", dollars)),
    ("capacity_qps", Scale("capacity in requests/s", figure, True)),
    ("cost_per_hour_usd", Scale("cost per hour", dollars)),
)


def sweep_page(name: str, folder: Path) -> Page:
    """Return the page of a sweep.

    Args:
        name: Name of the sweep.
        folder: Its folder, with sweep.csv.
    """
    jobs, num_failed = read_sweep(folder)
    failed = [("", f"{num_failed} of {num_failed + len(jobs)} jobs failed and are left out.")] if num_failed else []
    named = _with_own_options(jobs)
    varied = list(dict.fromkeys(key for job in jobs for key in job.overrides))
    # What was varied stays text.
    rows = [{**{name: _value(text) for name, text in job.row.items()}, **job.overrides} for job in jobs]
    return Page(
        title=name,
        kind=f"Sweep of {len(jobs)} jobs",
        facts=list(_facts(jobs)),
        verdict=[*_verdict(named), *failed],
        charts=list(_charts(named)),
        tables=[jobs_table(rows, varied)],
    )


def _with_own_options(jobs: Sequence[Job]) -> list[Job]:
    """Return jobs whose policies are named with their own options.

    For example "sarathi, token_budget 512". An option is a policy's own if jobs of other policies lack it.
    """
    for policy in _POLICIES:
        keys = dict.fromkeys(key for job in jobs for key in job.overrides if key.startswith(f"{policy}."))
        own = [key for key in keys if policy in jobs[0].overrides and _is_own(key, policy, jobs)]
        jobs = [replace(job, overrides=_folded(job.overrides, policy, own)) for job in jobs]
    return list(jobs)


def _is_own(option: str, policy: str, jobs: Sequence[Job]) -> bool:
    with_it = {job.overrides.get(policy) for job in jobs if option in job.overrides}
    return len(with_it) == 1 or any(option not in job.overrides for job in jobs)


def _folded(overrides: Mapping[str, str], policy: str, own: Sequence[str]) -> dict[str, str]:
    """Return overrides with a policy's own options in its name."""
    options = [f"{key.removeprefix(policy + '.')} {overrides[key]}" for key in own if key in overrides]
    rest = {key: value for key, value in overrides.items() if key not in own}
    return {**rest, policy: ", ".join([rest[policy], *options])} if options else rest


def _facts(jobs: Sequence[Job]) -> Iterator[Fact]:
    """Yield what all jobs have in common, and what was varied."""
    headings = [heading(about) for job in jobs if (about := _about(job.folder))]
    if len(headings) == len(jobs):
        for label, text in headings[0].items():
            if all(lines.get(label) == text for lines in headings):
                yield Fact(label, text)
    varied = dict.fromkeys(key for job in jobs for key in job.overrides)
    for key in varied:
        yield Fact(f"varied: {key}", ", ".join(dict.fromkeys(job.overrides.get(key, "-") for job in jobs)))


def _about(folder: Path) -> dict[str, Any] | None:
    """Return what a job simulated, without its load, or None."""
    path = next((folder / name for name in ("summary.json", "capacity.json") if (folder / name).is_file()), None)
    if path is None:
        return None
    about = read_json(path, "config", "choices", "groups")
    return {key: value for key, value in about.items() if key not in ("arrivals_per_s", "requests_per_s")}


def _verdict(jobs: Sequence[Job]) -> list[tuple[str, str]]:
    if "capacity_qps" in jobs[0].row:
        series = "scheduler" if "scheduler" in jobs[0].overrides else next(iter(jobs[0].overrides), "")
        return list(_compared_by_group(jobs, series))
    if LOAD in jobs[0].overrides:
        return [*_carried(jobs), *_at_common_load(jobs)]
    figures = {scale: _values(jobs, column) for column, scale in _compared_figures(jobs)}
    names = [_named(job) for job in jobs]
    sentences = compared({scale: values for scale, values in figures.items() if len(values) > 1}, names)
    overloaded = [_named(job) for job in jobs if job.row.get("overloaded") == "True"]
    return [*sentences, *([(" and ".join(overloaded), "overloaded.")] if overloaded else [])]


def _compared_figures(jobs: Sequence[Job]) -> list[tuple[str, Scale]]:
    """Return what jobs are compared by; goodput only within the same bounds."""
    one_slo = not any(key.partition(".")[0] == "slo" for key in jobs[0].overrides)
    return [(column, scale) for column, scale in _COMPARED if one_slo or column != "slo.goodput"]


def _named(job: Job) -> str:
    return name_of(job) or "the job"


def _values(jobs: Sequence[Job], column: str, *without: str) -> dict[str, float]:
    return {name_of(job, *without) or "the job": float(job.row[column]) for job in jobs if job.row.get(column)}


def _compared_by_group(jobs: Sequence[Job], series: str) -> Iterator[tuple[str, str]]:
    """Yield what carries the most, for each value of the other keys."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(name_of(job, series), []).append(job)
    others = [key for key in jobs[0].overrides if key != series]
    for group, members in groups.items():
        values = _values(members, "capacity_qps", *others)
        scale = Scale("", lambda value: f"{figure(value)} requests/s", True)
        best = scale.best(values)
        if len(values) == 1:
            yield group, f"capacity {scale.text(next(iter(values.values())))}."
        elif len(best) == len(values):
            yield group, f"the same capacity (within 2%), {scale.text(values[best[0]])}."
        else:
            yield group, f"{' and '.join(best)} {scale.against(values, best).strip()}."


def _carried(jobs: Sequence[Job]) -> Iterator[tuple[str, str]]:
    """Yield the highest load that each curve carries without overload."""
    curves: dict[str, list[Job]] = {}
    for job in jobs:
        curves.setdefault(name_of(job, LOAD), []).append(job)
    for name, members in curves.items():
        ordered = sorted(members, key=lambda job: float(job.overrides[LOAD]))
        carried = [job for job in ordered if job.row.get("overloaded") != "True"]
        if not carried:
            yield name, f"overloaded at every load, from {ordered[0].overrides[LOAD]} requests/s on."
            continue
        last = carried[-1]
        figures = ", ".join(
            f"{scale.label} {scale.text(float(last.row[column]))}"
            for column, scale in _COMPARED[:2]
            if last.row.get(column)
        )
        end = "the highest that was tried" if last is ordered[-1] else "overloaded beyond"
        yield name, f"not overloaded up to {last.overrides[LOAD]} requests/s ({end}), with {figures} there."


def _at_common_load(jobs: Sequence[Job]) -> list[tuple[str, str]]:
    """Compare at the highest load at which nothing is overloaded."""
    names = list(dict.fromkeys(name_of(job, LOAD) for job in jobs))
    by_load: dict[float, list[Job]] = {}
    for job in jobs:
        if job.row.get("overloaded") != "True":
            by_load.setdefault(float(job.overrides[LOAD]), []).append(job)
    common = [load for load, members in by_load.items() if len(members) == len(names)]
    if len(names) < 2 or not common:
        return []
    members = by_load[max(common)]
    figures = {scale: _values(members, column, LOAD) for column, scale in _compared_figures(jobs)[:5]}
    sentences = compared({scale: values for scale, values in figures.items() if len(values) > 1}, names)
    return [
        (who, f"at {max(common):g} requests/s, {text[0].lower() + text[1:] if not who else text}")
        for who, text in sentences
    ]


def _charts(jobs: Sequence[Job]) -> Iterator[Chart]:
    if "capacity_qps" in jobs[0].row:
        yield _capacities(jobs)
    elif LOAD in jobs[0].overrides:
        load, hollow = Axis("load, requests/s"), overloaded_loads(jobs)
        for statistic, curves in load_series(jobs).items():
            is_log = all(value > 0 for curve in curves.values() for _, value in curve)
            axis, factor = objective_axis(statistic, is_log)
            scaled = {name: [(x, factor * y) for x, y in curve] for name, curve in curves.items()}
            note = "hollow: overloaded" if hollow else ""
            yield line_chart(f"{axis.quantity} against load", (load, axis), scaled, hollow, note=note)
    else:
        for column, statistic in (("tbt_s.p99", "tbt_p99"), ("ttft_s.p90", "ttft_p90")):
            bars = _values(jobs, column)
            if bars:
                axis, factor = objective_axis(statistic)
                yield bar_chart(axis.quantity, axis, {name: factor * value for name, value in bars.items()})


def _capacities(jobs: Sequence[Job]) -> Chart:
    axis = Axis("capacity, requests/s")
    curves = capacity_curves(jobs)
    if curves is None:
        return bar_chart("Capacity", axis, _values(jobs, "capacity_qps"))
    objective, factor = objective_axis(curves.objective)
    bound = replace(objective, label=f"bound on {objective.label}")
    scaled = {name: [(factor * x, y) for x, y in curve] for name, curve in curves.curves.items()}
    return line_chart(f"Capacity against the bound on {objective_label(curves.objective)}", (bound, axis), scaled)


def _value(text: str) -> Any:
    """Return the value of a text in sweep.csv; None: empty."""
    if text in ("", "True", "False"):
        return text == "True" if text else None
    try:
        return float(text)
    except ValueError:
        return text
