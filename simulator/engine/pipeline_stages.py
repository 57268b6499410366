"""When a replica's pipeline stages are busy, and why they idle."""

from array import array
from collections import deque
from collections.abc import Sequence
from math import inf

from simulator.log import StageUse


class Stages:
    """Pipeline stages that batches pass through first in, first out.

    Attributes:
        use: Time use of each stage; shared with the result.
        first_free_s: When the first stage can take the next batch.
    """

    def __init__(
        self,
        use: Sequence[StageUse],
        overlap_sends: bool,
        spans: "array[float] | None" = None,
        depth: int | None = None,
    ) -> None:
        """Start with idle stages.

        Args:
            use: Time use of each stage, updated in place.
            overlap_sends: Whether a stage computes its next batch while it sends.
            spans: Array that logs the start and end of each batch's compute in each stage; None: no log.
            depth: Maximum batches in the stages at a time; None: one per stage.
        """
        self.use = use
        self._spans = spans
        self.first_free_s = 0.0
        self._overlap_sends = overlap_sends
        self._free_s = [0.0] * len(use)
        self._link_free_s = [0.0] * len(use)
        # Compute time of the latest batch in each stage; infinite before the first, so that no batch counts as longer.
        self._latest_s = [inf] * len(use)
        # Idle time of each stage is accounted for until then.
        self._accounted_s = [0.0] * len(use)
        # Of each batch that may still be in the stages, by stage: when the stage starts it and is free again, how long
        # it waits for it, and the part of the wait that comes from uneven batches.
        self._in_stages: deque[list[tuple[float, float, float, float]]] = deque(maxlen=depth or len(use))

    def make_room(self, now_s: float, times: Sequence[float]) -> None:
        """Account for a batch that leaves a full pipeline.

        Another batch can then be formed.
        """
        longer_s = 0.0
        for stage in range(len(self.use) - 1, -1, -1):
            use, idle_s = self.use[stage], now_s - self._idle_since(stage)
            if idle_s > 0:
                uneven_s = min(idle_s, longer_s)
                use.uneven_micro_batches_s += uneven_s
                use.waiting_for_downstream_s += idle_s - uneven_s
                self._accounted_s[stage] = now_s
            if times[2 * stage] > self._latest_s[stage]:
                longer_s += times[2 * stage] - self._latest_s[stage]

    def pass_through(self, times: Sequence[float], formed_s: float, start_s: float) -> tuple[float, float]:
        """Send a batch through the stages.

        Args:
            times: Times of the batch, as `StageTimes` returns them.
            formed_s: When the batch was formed.
            start_s: When it starts in the first stage.

        Returns:
            When the first stage is free again, and when the last stage completes the batch.
        """
        free_s, latest_s, last = self._free_s, self._latest_s, len(self.use) - 1
        arrives_s = start_s
        upstream_longer_s = 0.0
        by_stage = []
        for stage, use in enumerate(self.use):
            compute_s = times[2 * stage]
            begin_s = arrives_s if arrives_s > free_s[stage] else free_s[stage]
            waited_s = uneven_s = 0.0
            if begin_s > free_s[stage]:
                waited_s, uneven_s = self._count_wait(stage, formed_s, begin_s, upstream_longer_s)
            end_s = begin_s + compute_s
            if self._spans is not None:
                self._spans.extend((begin_s, end_s))
            if compute_s > latest_s[stage]:
                upstream_longer_s += compute_s - latest_s[stage]
            latest_s[stage] = compute_s
            free_s[stage] = end_s
            if stage < last:
                message_s = times[2 * stage + 1]
                link_free_s = self._link_free_s[stage]
                sends_s = end_s if end_s > link_free_s else link_free_s
                arrives_s = self._link_free_s[stage] = sends_s + message_s
                if not self._overlap_sends:
                    free_s[stage] = arrives_s
            use.busy_s += free_s[stage] - begin_s
            by_stage.append((begin_s, free_s[stage], waited_s, uneven_s))
        self._in_stages.append(by_stage)
        self.first_free_s = free_s[0]
        return free_s[0], end_s

    def clear(self, now_s: float) -> None:
        """Drop all batches at `now_s`.

        Subtract the time that they would have taken afterwards.
        """
        for by_stage in self._in_stages:
            for use, (begin_s, free_s, waited_s, uneven_s) in zip(self.use, by_stage, strict=True):
                use.busy_s -= max(0.0, free_s - max(begin_s, now_s))
                too_long_s = min(waited_s, max(0.0, begin_s - now_s))
                from_uneven_s = min(uneven_s, too_long_s)
                use.uneven_micro_batches_s -= from_uneven_s
                use.waiting_for_upstream_s -= too_long_s - from_uneven_s
        self._in_stages.clear()
        self.first_free_s = now_s
        for stage in range(len(self.use)):
            self._free_s[stage] = self._link_free_s[stage] = self._accounted_s[stage] = now_s
            self._latest_s[stage] = inf

    def _idle_since(self, stage: int) -> float:
        free_s, accounted_s = self._free_s[stage], self._accounted_s[stage]
        return free_s if free_s > accounted_s else accounted_s

    def _count_wait(self, stage: int, formed_s: float, begin_s: float, upstream_longer_s: float) -> tuple[float, float]:
        """Count a stage's wait for a batch that it starts at `begin_s`.

        Time before the batch was formed is no wait: the stage had no work.

        Returns:
            The wait in seconds, and the part of it that comes from batches of different length.
        """
        use, idle_since_s = self.use[stage], self._idle_since(stage)
        upstream_s = begin_s - max(idle_since_s, formed_s)
        if upstream_s <= 0:
            return 0.0, 0.0
        # A stage that had no work before waits for the pipeline to fill, whatever the batch lengths.
        uneven_s = min(upstream_s, upstream_longer_s) if idle_since_s >= formed_s else 0.0
        use.uneven_micro_batches_s += uneven_s
        use.waiting_for_upstream_s += upstream_s - uneven_s
        return upstream_s, uneven_s
