"""What every model of iteration time answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from simulator.model.host_overhead import EngineTime
from simulator.model.layout import Layout
from simulator.replica.batch import Batch

LONGEST_S = 1e6  # longer than any iteration


class StageTimes(Protocol):
    """Times of a batch for one model on one layout."""

    def __call__(self, batch: Batch) -> Sequence[float]:
        """Return the seconds of each pipeline stage and, between two of them, of the message to the next.

        float[2 * pp - 1]: first stage, message, second stage, ..., last stage. Without a pipeline it is one
        number.
        """
        ...


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


class IterationTime(Protocol):
    """A model of iteration time, before it knows the layout."""

    def for_layout(self, layout: Layout, engine: EngineTime) -> StageTimes:
        """Prepare the prediction for one model on one layout.

        Raises:
            ValueError: Something that it needs is unknown or cannot be read.
        """
        ...


def require_seconds(owner: object, *names: str) -> None:
    """Check attributes that are times.

    Raises:
        ValueError: One of them is not a number from 0 to LONGEST_S.
    """
    for name in names:
        value = getattr(owner, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= LONGEST_S:
            raise ValueError(f"{name} must be a number from 0 to {LONGEST_S:g}, got {value!r}")
