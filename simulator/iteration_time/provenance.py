"""Whether a run stayed within what its iteration times were measured for."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Extent:
    """The largest that a model of iteration time was measured for, or was asked.

    Attributes:
        batch_tokens: Tokens of a batch.
        num_decodes: Decodes of a batch.
        decode_context_tokens: Tokens in the KV cache per decode, mean of a batch.
        prefill_tokens: Tokens of a prompt: a chunk and its context.
    """

    batch_tokens: int = 0
    num_decodes: int = 0
    decode_context_tokens: int = 0
    prefill_tokens: int = 0


@dataclass(frozen=True)
class HostPart:
    """What the host adds to the time of a batch in each stage.

    Attributes:
        base_s: Seconds of an iteration.
        per_seq_s: Seconds per sequence in the batch.
        launch_s: By stage, seconds to launch its kernels; the GPU takes at least so long besides.
    """

    base_s: float
    per_seq_s: float
    launch_s: Sequence[float]


@dataclass(frozen=True)
class Provenance:
    """Where times come from.

    Attributes:
        source: What predicts, in a few words.
        measured: Extent of the measurements behind it; None: no measurements bound it.
        warnings: What a user should know before trusting the times.
        host: What of the times is the host's; None: they do not tell it apart.
    """

    source: str
    measured: Extent | None = None
    warnings: Sequence[str] = field(default=())
    host: HostPart | None = None


@runtime_checkable
class Documented(Protocol):
    """Stage times that know where they come from."""

    provenance: Provenance


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
