"""Slowdown of operators in an engine against operators alone.

Fitted to whole iterations of synthetic batches.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from profiling.measure.cases import ATTENTION_OPERATORS, HEAD_OPERATORS
from profiling.tables import Header, read_table
from simulator.config import choices, component
from simulator.iteration_time import ComposedTimes, DeviceProfile, Floats, InEngine, ProfileKernels
from simulator.model import EngineOverhead, Layout, Parallelism
from simulator.replica import Batch

# Numbers of tokens at which factors are fitted.
KNOTS = 2.0 ** np.arange(14)
# Weight of the difference of neighbouring factors, relative to a relative error of the same size.
SMOOTHNESS = 0.1
# Residuals beyond this count linearly, not by their square: a few iterations are disturbed.
NOISE = 0.03
# Fewer iterations do not determine the factors.
MIN_ITERATIONS = 20


@dataclass(frozen=True)
class Iterations:
    """Measured iterations, and the predicted time of their operators alone.

    Attributes:
        parts: float64[n, knots + 2], seconds: operators other than attention, each divided between the two knots around
            its number of tokens; then prefill attention and decode attention.
        seconds: float64[n], whole iterations.
    """

    parts: Floats
    seconds: Floats


def with_in_engine(profile: DeviceProfile, folder: Path) -> DeviceProfile:
    """Return a profile with factors fitted to its folder's iterations.

    The profile is unchanged if there are fewer than `MIN_ITERATIONS`.

    Robust least squares on relative errors, with a penalty on differences of neighbouring factors. Factors without
    data stay near 1.
    """
    measured = iterations_of(profile, folder)
    if len(measured.seconds) < MIN_ITERATIONS:
        return profile
    factors = _factors(measured)
    error, alone = (_errors(measured, values) for values in (factors, np.ones(len(factors))))
    note = (
        f"Operators within an engine: factors fitted to {len(error)} iterations, error {_format(error)}; composed as "
        f"measured alone {_format(alone)} (median / P95)."
    )
    used = _last_knot(measured) >= KNOTS
    in_engine = InEngine(
        tokens=KNOTS[used].tolist(),
        factors=[round(float(factor), 4) for factor in factors[: len(KNOTS)][used]],
        prefill_attention=round(float(factors[-2]), 4),
        decode_attention=round(float(factors[-1]), 4),
    )
    about = {**profile.about, "notes": [*profile.about.get("notes", []), note]}
    return replace(profile, about=about, in_engine=in_engine)


def iterations_of(profile: DeviceProfile, folder: Path) -> Iterations:
    """Return the measured iterations of a folder, with their operator times.

    Operator times are those of a profile without factors.

    Models outside configs/model are left out: their shapes are unknown.
    """
    table, header = read_table(folder, "iteration"), Header.read(folder)
    parts: list[Floats] = []
    seconds: list[float] = []
    key: Any
    for key, rows in table.groupby(["model", "tp"]):
        name, tp = key
        if name in choices("model") and header.device in choices("device"):
            model, device = component("model", name), component("device", header.device)
            layout = Layout(model, device, Parallelism(tp=int(tp)))
            times = ComposedTimes(ProfileKernels(profile, device), layout, EngineOverhead())
            parts += [_parts(times, row) for row in rows.to_dict("records")]
            seconds += rows["seconds"].tolist()
    return Iterations(np.array(parts).reshape(-1, len(KNOTS) + 2), np.array(seconds))


def _parts(times: ComposedTimes, row: dict[Any, Any]) -> Floats:
    prefills = [(row["num_prefill_tokens"], row["prefill_context"])] if row["num_prefill_tokens"] else []
    decodes = [(row["num_decodes"], row["decode_context"])] if row["num_decodes"] else []
    batch = Batch.of(prefills, decodes)
    num_tokens, num_seqs = batch.num_prefill_tokens + batch.num_decodes, len(prefills) + batch.num_decodes
    parts = np.zeros(len(KNOTS) + 2)
    for operator in times.operators(batch, 0):
        seconds = operator.seconds_per_layer * operator.layers
        if operator.name in ATTENTION_OPERATORS:
            parts[len(KNOTS) + ATTENTION_OPERATORS.index(operator.name)] += seconds
        elif operator.kind == "kernel":
            parts[: len(KNOTS)] += seconds * _shares(num_seqs if operator.name in HEAD_OPERATORS else num_tokens)
    return parts


def _shares(tokens: float) -> Floats:
    """Return the weight of each knot in linear interpolation over log2(tokens)."""
    distance = min(np.log2(tokens), len(KNOTS) - 1) - np.arange(len(KNOTS))
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(distance)))


def _factors(measured: Iterations) -> Floats:
    count = len(measured.seconds)
    relative = measured.parts / measured.seconds[:, None]
    differences = np.diff(np.eye(len(KNOTS) + 2)[: len(KNOTS)], axis=0) * SMOOTHNESS * np.sqrt(count)
    # A weak pull to 1 where data is missing, such as attention of a phase that no iteration has.
    pull = np.eye(len(KNOTS) + 2) * 1e-3 * np.sqrt(count)
    terms = np.vstack([relative, differences, pull])
    targets = np.concatenate([np.ones(count), np.zeros(len(differences)), np.diag(pull)])

    def residuals(factors: Floats) -> Floats:
        return np.asarray(terms @ factors - targets)

    def jacobian(_: Floats) -> Floats:
        return terms

    start, bounds = np.ones(len(pull)), (1e-3, np.inf)
    return np.asarray(least_squares(residuals, start, jacobian, bounds=bounds, loss="soft_l1", f_scale=NOISE).x)


def _errors(measured: Iterations, factors: Floats) -> Floats:
    """Return absolute errors, per cent."""
    return np.asarray(np.abs(measured.parts @ factors / measured.seconds - 1) * 100)


def _format(errors: Floats) -> str:
    return f"{np.median(errors):.1f} / {np.percentile(errors, 95):.1f} %"


def _last_knot(measured: Iterations) -> float:
    """Return the largest knot that an iteration reaches."""
    return float(KNOTS[np.flatnonzero(measured.parts[:, : len(KNOTS)].any(axis=0))[-1]])
