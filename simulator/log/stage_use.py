"""How each pipeline stage spends its time."""

from dataclasses import dataclass


@dataclass
class StageUse:
    """Time use of one pipeline stage, in seconds.

    In the rest of the simulated time the stage had no work: no batch could be formed.

    Attributes:
        busy_s: It computed, or sent and could not compute meanwhile.
        waiting_for_upstream_s: Its next batch was in an earlier stage or on its way.
        waiting_for_downstream_s: No further batch could be formed, because the pipeline was full.
        uneven_micro_batches_s: The part of either wait that comes from batches of different length: how much longer
            the awaited batch took than the one before it, in the stages between. The waits above exclude it.
        down_s: Its replica had failed.
    """

    busy_s: float = 0.0
    waiting_for_upstream_s: float = 0.0
    waiting_for_downstream_s: float = 0.0
    uneven_micro_batches_s: float = 0.0
    down_s: float = 0.0
