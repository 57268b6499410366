"""Formatted values with units, for people."""


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


def deployment_label(replicas: object, tp: object, pp: object, scheduler: str, token_budget: object) -> str:
    """Return a short label of a deployment, without its device."""
    budget = f" {token_budget}" if token_budget else ""
    return f"{replicas} x TP{tp} PP{pp}, {scheduler}{budget}"
