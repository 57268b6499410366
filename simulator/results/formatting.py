"""Formatted values with units, for people."""

import re
from collections.abc import Mapping

_LABELS = {"tbt": "TBT", "ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E", "scheduling_delay": "scheduling delay"}
_OBJECTIVE = re.compile(rf"(?:(.+)\.)?({'|'.join(_LABELS)})(?:_(mean|max|p[\d.]+))?")


def duration(seconds: float | None) -> str:
    """Format a time to three digits: "68.7 ms"; "-" for None.

    Times of 1,000 s or more are rounded to whole seconds: "1,480 s".
    """
    if seconds is None:
        return "-"
    if 0 < abs(seconds) < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if abs(seconds) < 1000 else f"{seconds:,.0f} s"


def figure(value: float | None) -> str:
    """Format a number to four digits: "0.4922", "12,345"; "-" for None."""
    return "-" if value is None else f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def share(value: float | None) -> str:
    """Format a share as a percentage: "12.3%"; "-" for None."""
    return "-" if value is None else f"{value:.1%}"


def dollars(value: float | None) -> str:
    """Format US dollars: "$1,234.50"; "-" for None."""
    return "-" if value is None else f"${value:,.2f}"


def count(value: float | None) -> str:
    """Format a count: "12,345"; "-" for None."""
    return "-" if value is None else f"{value:,.0f}"


def deployment_label(replicas: object, tp: object, pp: object, scheduler: str, token_budget: object) -> str:
    """Return a short label of a deployment, without its device."""
    budget = f" {token_budget}" if token_budget else ""
    return f"{replicas} x TP{tp} PP{pp}, {scheduler}{budget}"


def slo_word(met: bool | None) -> str:
    """Return whether an SLO is met: "met", "missed", "undecided"."""
    return "undecided" if met is None else "met" if met else "missed"


def milliseconds(seconds: float | None) -> str:
    """Format a time in milliseconds, without the unit: "1,480.0"; "-" for None."""
    return "-" if seconds is None else f"{seconds * 1e3:,.1f}"


def objective_text(name: str, bound: float) -> str:
    """Format an objective: "TTFT p90 <= 500 ms", "chat goodput >= 90.0%".

    Args:
        name: As in `Objective.name`, such as "ttft_p90".
        bound: Seconds, or the share of goodput.
    """
    sign = ">=" if _is_goodput(name) else "<="
    return f"{objective_label(name)} {sign} {objective_value(name, bound)}"


def bounds_text(bounds: Mapping[str, float]) -> str:
    """Format objectives: "TTFT p90 <= 500 ms, TBT p99 <= 100 ms"."""
    return ", ".join(objective_text(name, bound) for name, bound in bounds.items())


def slo_text(bounds: Mapping[str, float], request_bounds: Mapping[str, float]) -> str:
    """Format an SLO: "goodput >= 90.0% within TTFT <= 2 s".

    Args:
        bounds: Bounds by name of the objective.
        request_bounds: Bounds on each request, which define goodput.
    """
    has_goodput = bool(request_bounds) and any(map(_is_goodput, bounds))
    return f"{bounds_text(bounds)} within {bounds_text(request_bounds)}" if has_goodput else bounds_text(bounds)


def objective_value(name: str, value: float | None) -> str:
    """Format a value of an objective: "57.3 ms"; "93.1%" of goodput."""
    return share(value) if _is_goodput(name) else duration(value)


def objective_label(name: str) -> str:
    """Return an objective in words: "chat TTFT p99.9" for "chat.ttft_p99.9"."""
    match = _OBJECTIVE.fullmatch(name)
    if match is None:
        return name.replace(".", " ").replace("_", " ")
    client, metric, statistic = match.groups(default="")
    return " ".join(part for part in (client, _LABELS[metric], statistic) if part)


def _is_goodput(name: str) -> bool:
    return name.rpartition(".")[2] == "goodput"
