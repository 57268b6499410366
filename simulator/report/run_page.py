"""Page of one run, or of several side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from simulator.output import heading
from simulator.report.charts import key_of
from simulator.report.configuration_table import configuration_table
from simulator.report.page import Fact, Limits, Page
from simulator.report.request_tables import request_tables
from simulator.report.run_charts import run_charts
from simulator.report.verdict import comparison, verdict
from simulator.results import (
    Result,
    bottlenecks,
    figures_table,
    latencies_table,
    parts_tables,
    utilisation,
)

# Keys of summary.json that the page needs, besides those of every run.
SUMMARY_KEYS = ("arrivals_per_s", "num_requests", "groups", "choices", "slo", "faults", "overloaded", "prefix_cache")


def run_page(runs: Mapping[str, tuple[Result, Mapping[str, Any]]]) -> Page:
    """Return the page of runs.

    Args:
        runs: Result and summary by name.
    """
    results = {name: result for name, (result, _) in runs.items()}
    summaries = {name: summary for name, (_, summary) in runs.items()}
    several = len(runs) > 1
    details = [
        table for name, result in results.items() for table in request_tables(result, f" of {name}" if several else "")
    ]
    configs = {name: summary["config"] for name, summary in summaries.items()}
    differences = [configuration_table(configs, only_differences=True)] if several else []
    parts = [
        replace(table, title=f"{table.title} of {name}") if several else table
        for name, summary in summaries.items()
        for table in parts_tables(summary)
    ]
    return Page(
        title=" and ".join(runs) if len(runs) < 3 else f"{len(runs)} runs",
        kind="Comparison" if several else "Run",
        facts=facts(list(runs), [_offered(summary) for summary in summaries.values()]),
        verdict=_verdicts(summaries),
        warnings=_warnings(summaries),
        limits=[
            Limits(name if several else "", utilisation(result), bottlenecks(result))
            for name, result in results.items()
        ],
        charts=list(run_charts(results)),
        tables=[figures_table(summaries), latencies_table(summaries), *differences, *parts],
        details=[*details, configuration_table(configs, only_differences=False)],
        zooms_together=True,
    )


def _offered(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return what was simulated; the rate that was served is a result."""
    return heading({**summary, "requests_per_s": None})


def _verdicts(summaries: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    if len(summaries) > 1:
        loads = {_offered(summary)["load"] for summary in summaries.values()}
        differ = [("", "The loads differ, so that figures do not compare directly.")] if len(loads) > 1 else []
        return [*differ, *comparison(summaries)]
    return [("", verdict(summary)) for summary in summaries.values()]


def _warnings(summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the warnings, each with its runs unless all have it."""
    owners: dict[str, list[str]] = {}
    for name, summary in summaries.items():
        for text in summary["warnings"]:
            owners.setdefault(text, []).append(name)
    return [
        text if len(names) == len(summaries) else f"{' and '.join(names)}: {text}" for text, names in owners.items()
    ]


def facts(names: Sequence[str], headings: Sequence[Mapping[str, str]]) -> list[Fact]:
    """Return what was simulated: common lines once, others by run.

    Args:
        names: Names of the runs.
        headings: Lines by label, of each run.
    """
    labels = dict.fromkeys(label for lines in headings for label in lines)
    found = []
    for label in labels:
        texts = [lines.get(label, "-") for lines in headings]
        keys = [key_of(index, name) for index, name in enumerate(names)]
        found.append(
            Fact(label, texts[0]) if len(set(texts)) == 1 else Fact(label, texts=list(zip(keys, texts, strict=True)))
        )
    return found
