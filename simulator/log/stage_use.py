"""What each pipeline stage did with its time."""

from dataclasses import dataclass


@dataclass
class StageUse:
    """Seconds of one pipeline stage. What is left of a run, it had no work: no batch could be formed.

    Attributes:
        down_s: Its replica had failed.
        busy_s: It computed, or sent and did nothing else meanwhile.
        waiting_for_upstream_s: Its next batch was in the stages before it or on its way from them.
        waiting_for_downstream_s: No further batch could be formed, because the pipeline was full.
        uneven_micro_batches_s: The part of either wait that comes from batches of different length: what the
            awaited one took longer than the one before it, in the stages between.
    """

    busy_s: float = 0.0
    waiting_for_upstream_s: float = 0.0
    waiting_for_downstream_s: float = 0.0
    uneven_micro_batches_s: float = 0.0
    down_s: float = 0.0
