"""Whether a run stayed within what its iteration times were measured for."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.iteration_time.base import Extent, Provenance

_WORDS = {
    "batch_tokens": "batches of {used:,} tokens (measured to {measured:,})",
    "num_decodes": "{used:,} decodes in a batch (measured to {measured:,})",
    "decode_context_tokens": "{used:,} tokens of context per decode (measured to {measured:,})",
    "prefill_tokens": "prompts of {used:,} tokens (measured to {measured:,})",
}


def extent_of(iterations: dict[str, NDArray[Any]], longest_prefill: int) -> Extent:
    """Return the largest that the iteration times of a replica were asked for.

    Args:
        iterations: As in `ReplicaResult.iterations`.
        longest_prefill: Tokens of the longest prompt that the replica started on.
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


def describe(runs: Iterable[tuple[Provenance, Extent]]) -> tuple[dict[str, Any], list[str]]:
    """Return the summary's `iteration_time` and the warnings of replicas."""
    sources: list[str] = []
    warnings: list[str] = []
    beyond: dict[str, dict[str, int]] = {}
    for provenance, extent in runs:
        sources += [provenance.source] if provenance.source not in sources else []
        warnings += [warning for warning in provenance.warnings if warning not in warnings]
        for name, used in asdict(extent).items():
            measured = used if provenance.measured is None else getattr(provenance.measured, name)
            if used > max(measured, beyond.get(name, {}).get("used", 0)):
                beyond[name] = {"used": used, "measured": measured}
    if beyond:
        parts = ", ".join(_WORDS[name].format(**numbers) for name, numbers in beyond.items())
        warnings.append(f"iteration time is extrapolated beyond its measurements: {parts}")
    return {"sources": sources, "beyond_measured": beyond}, warnings
