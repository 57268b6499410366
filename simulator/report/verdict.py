"""Verdicts on runs, in words."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.results import dollars, duration, figure, share, slo_word
from traces.shared.spelling import counted

# Figures that differ by less are called the same.
TOLERANCE = 0.02
Summaries = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Scale:
    """A figure by which runs or deployments are compared.

    Attributes:
        label: Name in a sentence.
        text: Formats a value.
        more_is_better: Whether larger values are better.
    """

    label: str
    text: Callable[[float | None], str] = duration
    more_is_better: bool = False

    def best(self, values: Mapping[str, float]) -> tuple[str, ...]:
        """Return the names of the best value and of its equals."""
        if not values:
            return ()
        best = max(values.values()) if self.more_is_better else min(values.values())
        return tuple(name for name, value in values.items() if abs(value - best) <= TOLERANCE * abs(best))

    def against(self, values: Mapping[str, float], best: Sequence[str], with_names: bool = True) -> str:
        """Return the best against the others: "70 ms against 420 ms".

        Args:
            values: At least two values, by name.
            best: Names of the best.
            with_names: Whether to say whose the others are.
        """
        rest = {name: value for name, value in values.items() if name not in best}
        leading = [values[name] for name in best]
        own = self.text(max(leading) if self.more_is_better else min(leading))
        low, high = self.text(min(rest.values())), self.text(max(rest.values()))
        if len(rest) == 1:
            return f"{self.label} {own} against {low}{f' of {next(iter(rest))}' if with_names else ''}"
        others = f" of the other {len(rest)}" if with_names else ""
        return f"{self.label} {own} against {low if low == high else f'{low} to {high}'}{others}"


Value = Callable[[Mapping[str, Any]], float | None]


def _latency(label: str, metric: str, statistic: str) -> tuple[Scale, Value]:
    return Scale(f"{label} {statistic}"), lambda summary: summary[metric][statistic]


# Scales, and their values from a summary; None: not measured.
_LATENCIES = (
    _latency("TBT", "tbt_s", "p99"),
    _latency("TTFT", "ttft_s", "p90"),
    _latency("TPOT", "tpot_s", "p50"),
    _latency("E2E", "e2e_s", "p50"),
)
_THROUGHPUT = Scale("requests/s served", figure, True), lambda summary: summary["requests_per_s"]
_GOODPUT = Scale("goodput", share, True), lambda summary: summary["slo"] and summary["slo"]["goodput"]


def _cost(summary: Mapping[str, Any]) -> float | None:
    value: float | None = summary["cluster"]["cost_per_million_output_tokens_usd"]
    return value


def verdict(summary: Mapping[str, Any]) -> str:
    """Return the verdict on one run in a sentence."""
    rate = summary["arrivals_per_s"]
    load = "" if rate is None else f" at {figure(rate)} requests/s"
    measured = [(scale, value) for scale, value_of in _LATENCIES[:2] if (value := value_of(summary)) is not None]
    latencies = ", ".join(f"{scale.label} {scale.text(value)}" for scale, value in measured)
    parts = [(latencies or "no token was measured") + load]
    parts.append(
        "overloaded: latencies depend on the length of the trace" if summary["overloaded"] else "not overloaded"
    )
    most = summary["kv_use"]["max"]
    parts += [f"KV cache at most {share(most)}"] if most is not None else []
    parts += [f"{summary['num_preemptions']:,} preemptions"] if summary["num_preemptions"] else []
    parts += _slo(summary)
    parts += [text for text in (_unfinished(summary), _failures(summary)) if text]
    cost = _cost(summary)
    parts += [f"{dollars(cost)} per million output tokens"] if cost is not None else []
    return "; ".join(parts) + "."


def _slo(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield the verdict on the SLOs of the run and its classes."""
    slo = summary["slo"]
    if slo and slo["objectives"]:
        yield f"SLO {slo_word(slo['met'])}"
    if slo and slo["goodput"] is not None:
        yield f"goodput {share(slo['goodput'])}"
    classes: dict[str, list[str]] = {}
    for client in summary["clients"]:
        if client["slo"]:
            classes.setdefault(slo_word(client["slo"]["met"]), []).append(client["client"])
    yield from (f"SLO of {' and '.join(names)} {word}" for word, names in classes.items())


def _unfinished(summary: Mapping[str, Any]) -> str:
    kinds = ("unfinished", "stuck", "ignored", "lost", "not_arrived")
    counts = [f"{summary[f'num_{kind}']:,} {kind.replace('_', ' ')}" for kind in kinds if summary[f"num_{kind}"]]
    return f"of {summary['num_requests']:,} requests, {' and '.join(counts)}" if counts else ""


def _failures(summary: Mapping[str, Any]) -> str:
    faults = summary["faults"]
    counts = (("failure", "num_failures"), ("slow replica", "num_slowdowns"), ("slow network", "num_network"))
    parts = [counted(faults[key], name) for name, key in counts if faults[key]]
    if not parts:
        return ""
    return f"{', '.join(parts)} with {counted(faults['num_retries'], 'request')} retried"


def comparison(summaries: Summaries) -> list[tuple[str, str]]:
    """Return who is better in what, by name.

    Figures within TOLERANCE of the best are equal to it.

    Args:
        summaries: At least two, by name.

    Returns:
        Names, empty if all runs are meant, and a sentence about them.
    """
    figures = {
        scale: {name: value for name, summary in summaries.items() if (value := value_of(summary)) is not None}
        for scale, value_of in (*_LATENCIES, *_figures_that_may_differ(summaries))
    }
    sentences = compared({scale: values for scale, values in figures.items() if len(values) > 1}, list(summaries))
    return [*sentences, *_states(summaries)]


def compared(figures: Mapping[Scale, Mapping[str, float]], order: Sequence[str]) -> list[tuple[str, str]]:
    """Return who is the best in what; the best in most first.

    Args:
        figures: At least two values of each, by name.
        order: All names.
    """
    by_best: dict[tuple[str, ...], list[str]] = {}
    same = []
    for scale, values in figures.items():
        best = scale.best(values)
        if len(best) == len(values):
            same.append(scale.label)
        else:
            texts = by_best.setdefault(best, [])
            texts.append(scale.against(values, best, with_names=not texts))
    sentences = [
        (" and ".join(best), ", ".join(texts) + ".")
        for best, texts in sorted(by_best.items(), key=lambda entry: (-len(entry[1]), order.index(entry[0][0])))
    ]
    if same:
        sentences.append(("", f"The same (within {TOLERANCE:.0%}): {', '.join(same)}."))
    return sentences


def _figures_that_may_differ(summaries: Summaries) -> Iterator[tuple[Scale, Value]]:
    """Yield figures that only some runs have, or that may differ."""
    if any(summary["overloaded"] for summary in summaries.values()):
        yield _THROUGHPUT
    yield _GOODPUT
    yield Scale("cost per million output tokens", dollars), _cost
    if len({summary["cluster"]["cost_per_hour_usd"] for summary in summaries.values()}) > 1:
        yield Scale("price per hour", dollars), lambda summary: summary["cluster"]["cost_per_hour_usd"]


def _states(summaries: Summaries) -> Iterator[tuple[str, str]]:
    """Yield sentences about overload, SLOs and failures."""
    overloaded = [name for name, summary in summaries.items() if summary["overloaded"]]
    if overloaded:
        yield " and ".join(overloaded), "overloaded: latencies depend on the length of the trace."
    else:
        yield "", "No run is overloaded."
    met: dict[str, list[str]] = {}
    for name, summary in summaries.items():
        if summary["slo"] and summary["slo"]["objectives"]:
            met.setdefault(slo_word(summary["slo"]["met"]), []).append(name)
    for word, names in met.items():
        yield ("", f"SLO {word} by all.") if len(names) == len(summaries) else (" and ".join(names), f"SLO {word}.")
    for name, summary in summaries.items():
        troubles = [text for text in (_unfinished(summary), _failures(summary)) if text]
        if troubles:
            yield name, "; ".join(troubles) + "."
