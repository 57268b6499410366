"""Provenance of iteration times: source, measured extent, warnings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from traces.shared.warnings import Warning


@dataclass(frozen=True)
class Extent:
    """Largest values at which iteration times were measured, or were used.

    Attributes:
        batch_tokens: Tokens in a batch.
        num_decodes: Decodes in a batch.
        decode_context_tokens: Context tokens per decode, mean over a batch.
        prefill_tokens: Prompt tokens: a chunk and its context.
    """

    batch_tokens: int = 0
    num_decodes: int = 0
    decode_context_tokens: int = 0
    prefill_tokens: int = 0


@dataclass(frozen=True)
class HostPart:
    """Host overhead of a batch in each stage.

    Attributes:
        base_s: Seconds per iteration.
        per_seq_s: Seconds per sequence in the batch.
        launch_s: Seconds to launch the kernels, by stage: minimum of the GPU time, to which the others are added.
    """

    base_s: float
    per_seq_s: float
    launch_s: Sequence[float]


@dataclass(frozen=True)
class Provenance:
    """Source and limits of predicted times.

    Attributes:
        source: Source of the times, in a few words.
        measured: Extent of the measurements; None: no measurements bound the times.
        warnings: What was not measured.
        host: Host overhead within the times; None: unknown.
        beyond: Errors of extrapolation by name of the extent, in percent: `times` beyond the fitted rows, `median` and
            `p95` of held-out rows.
        generation: Engine whose kernels were measured, such as "vllm 0.25.0"; empty: none.
    """

    source: str
    measured: Extent | None = None
    warnings: Sequence[Warning] = field(default=())
    host: HostPart | None = None
    beyond: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    generation: str = ""


_BEYOND_TEXTS = {
    "batch_tokens": "batches of {used:,} tokens (measured to {measured:,}{error})",
    "num_decodes": "{used:,} decodes in a batch (measured to {measured:,}{error})",
    "decode_context_tokens": "{used:,} tokens of context per decode (measured to {measured:,}{error})",
    "prefill_tokens": "prompts of {used:,} tokens (measured to {measured:,}{error})",
}


def extent_of(iterations: Mapping[str, NDArray[Any]], longest_prefill: int) -> Extent:
    """Return the extent of a replica's iterations.

    Args:
        iterations: Columns of `ReplicaResult.iterations`.
        longest_prefill: Tokens of the longest prompt that the replica started to prefill.
    """
    prefill, decodes = iterations["num_prefill_tokens"], iterations["num_decodes"]
    decoding = decodes > 0
    context = iterations["decode_context_tokens"][decoding] / decodes[decoding]
    return Extent(
        batch_tokens=int((prefill + decodes).max(initial=0)),
        num_decodes=int(decodes.max(initial=0)),
        decode_context_tokens=int(np.ceil(context.max(initial=0))),
        prefill_tokens=longest_prefill,
    )


def _beyond_error(error: Mapping[str, float] | None) -> str:
    """Return what held-out rows say of an extrapolation."""
    if error is None:
        return ""
    return f"; error up to {error['times']:g}x beyond: {error['median']:.0f}%, P95 {error['p95']:.0f}%"


def describe_provenance(runs: Iterable[tuple[Provenance | None, Extent]]) -> tuple[dict[str, Any], list[Warning]]:
    """Return the summary's `iteration_time` and the warnings.

    `runs` has the provenance and the extent of each replica; an unknown provenance says nothing.
    """
    sources: list[str] = []
    warnings: list[Warning] = []
    beyond: dict[str, dict[str, int]] = {}
    errors: dict[str, str] = {}
    for provenance, extent in runs:
        if provenance is None:
            continue
        sources += [provenance.source] if provenance.source not in sources else []
        warnings += [warning for warning in provenance.warnings if warning not in warnings]
        for name, used in asdict(extent).items():
            measured = used if provenance.measured is None else getattr(provenance.measured, name)
            if used > max(measured, beyond.get(name, {}).get("used", 0)):
                beyond[name] = {"used": used, "measured": measured}
                errors[name] = _beyond_error(provenance.beyond.get(name))
    if beyond:
        parts = ", ".join(_BEYOND_TEXTS[name].format(**numbers, error=errors[name]) for name, numbers in beyond.items())
        warnings.append(Warning("extrapolated", f"iteration time is extrapolated: {parts}"))
    return {"sources": sources, "beyond_measured": beyond}, warnings
