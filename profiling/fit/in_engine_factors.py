"""How much longer operators take within an engine than alone: fitted to whole iterations of made-up batches."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from profiling.measure.cases import ATTENTION_OPERATORS, HEAD_OPERATORS
from profiling.tables import Header, read_table
from simulator.config import choices, component
from simulator.iteration_time import ComposedTimes, DeviceProfile, Floats, InEngine, ProfileKernels
from simulator.model import IterationOverhead, Layout, Parallelism
from simulator.replica import Batch

# Factors are known at powers of two tokens.
KNOTS = 2.0 ** np.arange(14)
# Weight of a difference between neighbouring factors against a relative error of the same size.
SMOOTHNESS = 0.1
# Relative errors, and differences of neighbours, beyond this count in proportion and not by their square: a few
# iterations are disturbed.
NOISE = 0.03
# Fewer iterations than this do not tell the factors apart.
FEWEST_ITERATIONS = 20


@dataclass(frozen=True)
class Iterations:
    """Measured iterations, and what their operators take alone.

    Attributes:
        parts: float64[n, knots + 2], seconds: operators but attention, each shared between the two knots around its
            number of tokens, then attention of prefill chunks and of decodes.
        seconds: float64[n], of the whole iteration.
    """

    parts: Floats
    seconds: Floats


def with_in_engine(profile: DeviceProfile, folder: Path) -> DeviceProfile:
    """Return a profile with factors fitted to the iterations of its folder, if there are enough.

    Robust least squares of relative errors, neighbouring factors alike. What the iterations say nothing of stays as it
    was measured alone.
    """
    measured = iterations_of(profile, folder)
    if len(measured.seconds) < FEWEST_ITERATIONS:
        return profile
    factors = _factors(measured)
    error, alone = (_errors(measured, one) for one in (factors, np.ones(len(factors))))
    note = (
        f"Operators within an engine: factors fitted to {len(error)} iterations, error {_shown(error)}; composed as "
        f"measured alone {_shown(alone)} (median / P95)."
    )
    used = _most_tokens(measured) >= KNOTS
    in_engine = InEngine(
        tokens=KNOTS[used].tolist(),
        factors=[round(float(one), 4) for one in factors[: len(KNOTS)][used]],
        prefill_attention=round(float(factors[-2]), 4),
        decode_attention=round(float(factors[-1]), 4),
    )
    about = {**profile.about, "notes": [*profile.about.get("notes", []), note]}
    return replace(profile, about=about, in_engine=in_engine)


def iterations_of(profile: DeviceProfile, folder: Path) -> Iterations:
    """Return the measured iterations of a folder, composed of a profile without factors.

    Models that are not among configs/model are left out: their shapes are not known here.
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
            times = ComposedTimes(ProfileKernels(profile, device), layout, IterationOverhead())
            parts += [_parts(times, row) for row in rows.to_dict("records")]
            seconds += rows["seconds"].tolist()
    return Iterations(np.array(parts).reshape(-1, len(KNOTS) + 2), np.array(seconds))


def _parts(times: ComposedTimes, row: dict[Any, Any]) -> Floats:
    prefills = [(row["num_prefill_tokens"], row["prefill_context"])] if row["num_prefill_tokens"] else []
    decodes = [(row["num_decodes"], row["decode_context"])] if row["num_decodes"] else []
    batch = Batch.of(prefills, decodes)
    num_tokens, num_seqs = batch.num_prefill_tokens + batch.num_decodes, len(prefills) + batch.num_decodes
    found = np.zeros(len(KNOTS) + 2)
    for one in times.operators(batch, 0):
        seconds = one.seconds_per_layer * one.layers
        if one.name in ATTENTION_OPERATORS:
            found[len(KNOTS) + ATTENTION_OPERATORS.index(one.name)] += seconds
        elif one.kind == "kernel":
            found[: len(KNOTS)] += seconds * _shares(num_seqs if one.name in HEAD_OPERATORS else num_tokens)
    return found


def _shares(tokens: float) -> Floats:
    """How much each knot counts in a straight line over the logarithm."""
    place = min(np.log2(tokens), len(KNOTS) - 1) - np.arange(len(KNOTS))
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(place)))


def _factors(measured: Iterations) -> Floats:
    count = len(measured.seconds)
    wanted = measured.parts / measured.seconds[:, None]
    differences = np.diff(np.eye(len(KNOTS) + 2)[: len(KNOTS)], axis=0) * SMOOTHNESS * np.sqrt(count)
    # A weak pull to 1: where an iteration says nothing, as of attention if there was none of a phase.
    pull = np.eye(len(KNOTS) + 2) * 1e-3 * np.sqrt(count)
    terms = np.vstack([wanted, differences, pull])
    sides = np.concatenate([np.ones(count), np.zeros(len(differences)), np.diag(pull)])

    def errors(factors: Floats) -> Floats:
        return np.asarray(terms @ factors - sides)

    def slopes(_: Floats) -> Floats:
        return terms

    start, bounds = np.ones(len(pull)), (1e-3, np.inf)
    return np.asarray(least_squares(errors, start, slopes, bounds=bounds, loss="soft_l1", f_scale=NOISE).x)


def _errors(measured: Iterations, factors: Floats) -> Floats:
    """Absolute errors, per cent."""
    return np.asarray(np.abs(measured.parts @ factors / measured.seconds - 1) * 100)


def _shown(errors: Floats) -> str:
    return f"{np.median(errors):.1f} / {np.percentile(errors, 95):.1f} %"


def _most_tokens(measured: Iterations) -> float:
    """The last knot that an iteration reaches."""
    return float(KNOTS[np.flatnonzero(measured.parts[:, : len(KNOTS)].any(axis=0))[-1]])
