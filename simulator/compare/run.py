"""Metrics of one run, simulated or measured."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from simulator.results import LATENCIES, STATISTICS
from traces.shared import value_checks as checks

THROUGHPUTS = ("requests_per_s", "output_tokens_per_s")
# More pieces than this share off the number of tokens change the 99th percentile of the gaps.
_OFF = 0.01
# Without their number: a mean gap this much longer than the mean time per output token is one of pieces.
_LONGER = 1.5

Statistics = Mapping[str, float | None]


@dataclass(frozen=True)
class Run:
    """Metrics of one run.

    Attributes:
        name: Display name.
        measured: Whether the run was measured on an engine, not simulated.
        num_finished: Requests that finished; None: unknown.
        throughputs: Values by name in THROUGHPUTS; None: unknown.
        latencies: Seconds by name in LATENCIES and statistic (mean, p50, p90, ...); None: unknown.
        notes: What to know about the figures, a sentence each.
        title: What was simulated, in one line; empty: unknown.
        goodput: Share of the requests that meet every bound on their own; None: unknown.
        good_requests_per_s: Their number per second; None: unknown.
    """

    name: str
    measured: bool
    num_finished: int | None
    throughputs: Statistics
    latencies: Mapping[str, Statistics]
    notes: tuple[str, ...] = ()
    title: str = ""
    goodput: float | None = None
    good_requests_per_s: float | None = None


def measured_run(
    num_finished: Any, throughputs: Mapping[str, Any], latencies: Mapping[str, Statistics], notes: tuple[str, ...] = ()
) -> Run:
    """Build a measured run, without a name; what is missing is unknown."""
    unknown: Statistics = dict.fromkeys(STATISTICS)
    count = number(num_finished)
    run = Run(
        name="",
        measured=True,
        num_finished=None if count is None else int(count),
        throughputs={name: number(throughputs.get(name)) for name in THROUGHPUTS},
        latencies={name: {**unknown, **latencies.get(name, {})} for name in LATENCIES},
        notes=notes,
    )
    if any(value is not None for statistics in run.latencies.values() for value in statistics.values()):
        return run
    return replace(run, notes=(*notes, "it has no latencies whose names are known"))


def without_gaps_of_pieces(run: Run, num_gaps: int = 0, num_tokens: int = 0) -> Run:
    """Leave out gaps between tokens that are gaps between pieces of several.

    Args:
        run: A measured run.
        num_gaps: Number of gaps; 0: unknown.
        num_tokens: Number of tokens that came after a gap.
    """
    gaps, tpot = run.latencies["tbt_s"], run.latencies["tpot_s"]
    if num_gaps:
        are_pieces = abs(num_gaps / max(num_tokens, 1) - 1) > _OFF
        found = f"{num_gaps:,} gaps for {num_tokens:,} tokens"
    else:
        statistic = next((name for name in ("mean", "p50") if gaps.get(name) and tpot.get(name)), None)
        gap_s, tpot_s = (gaps[statistic] or 0.0, tpot[statistic] or 0.0) if statistic else (0.0, 0.0)
        are_pieces = gap_s > _LONGER * tpot_s
        found = f"gaps of {gap_s * 1e3:.3g} ms for {tpot_s * 1e3:.3g} ms per output token"
    if not are_pieces:
        return run
    note = f"several tokens came at a time ({found}): its gaps are between pieces and are left out of TBT"
    latencies = {**run.latencies, "tbt_s": dict.fromkeys(STATISTICS)}
    return replace(run, latencies=latencies, notes=(*run.notes, note))


def number(value: Any) -> float | None:
    """Return a time, count or rate; None if it is unknown.

    Raises:
        ValueError: It is something else.
    """
    if value is None or value != value:  # NaN
        return None
    checks.number("a time, count or rate", value, 0)
    return float(value)
