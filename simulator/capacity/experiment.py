"""Trials of a capacity search.

A trial runs a workload at a rate on a deployment and checks the SLO.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.capacity.bisection import Trial
from simulator.cluster import Deployment, groups_of
from simulator.replica import Batch
from simulator.results import SLO, Result, Warning, is_cut_off
from simulator.simulation import simulate
from traces import Trace, Workload

# Missed by a trial whose queue builds up, unless the paper's criterion holds: a bound on the scheduling delay.
OVERLOAD = "overload"


@dataclass(frozen=True)
class CapacityExperiment:
    """A workload, the deployment that serves it, and the SLO.

    Attributes:
        workload: Workload, whose rate each trial replaces.
        deployment: Deployment, or the groups of a cluster.
        slo: SLO that defines the capacity.
        time_limit_s: Simulated seconds of a trial; None: until the last request ends.
        settings: Other arguments of `simulate`.
    """

    workload: Workload
    deployment: Deployment | Sequence[Deployment]
    slo: SLO
    time_limit_s: float | None
    settings: Mapping[str, Any]

    def trials(self, seed: int) -> Callable[[float], Trial]:
        """Return a function that runs a trial at a rate.

        All its trials have the requests of `seed`.

        Raises:
            ValueError: The requests cannot be read, or the arrival process has no rate.
        """
        requests = self.workload.requests(seed)
        return lambda qps: self._trial(requests, qps, seed)

    def start_qps(self, requests: Trace) -> float:
        """Return the first rate to try.

        Prefills of the mean prompt alone take half of the time at this rate.

        Raises:
            ValueError: The deployment does not fit.
        """
        prompt = int(requests.prompt_tokens.mean())
        per_s = 0.0
        for group in groups_of(self.deployment):
            times = group.stage_times()(Batch.of([(min(prompt, group.model.max_model_len), 0)], []))
            per_s += group.num_replicas / max(times[::2])
        return per_s / 2

    def _trial(self, requests: Trace, qps: float, seed: int) -> Trial:
        result = simulate(
            self.workload.at(qps).trace(seed, requests),
            self.deployment,
            seed=seed,
            time_limit_s=self.time_limit_s,
            **self.settings,
        )
        self._check(result, qps)
        figures, missed = self.slo.figures(result), self.slo.missed(result)
        if result.overloaded and not self.slo.bounds_queue:
            missed.append(OVERLOAD)
        return Trial(
            qps=qps,
            missed=missed,
            values=self.slo.values(result),
            goodput=figures["goodput"],
            goodput_qps=figures["goodput_qps"],
            num_finished=result.num_by_status["num_finished"],
            arrivals_per_s=result.arrivals_per_s,
            overloaded=result.overloaded,
            is_burst=_is_burst(result),
            warnings=lasting_warnings(result),
        )

    def _check(self, result: Result, qps: float) -> None:
        """Check that a trial measures the load at its rate.

        Raises:
            ValueError: No request is measured or judged, or the engine ignores some: these are no load carried.
        """
        if not result.counted.any():
            raise ValueError(
                f"no request of the trial at {qps:g} requests/s is measured: all arrive in the warm-up or after the "
                "time limit; change metrics.warmup_s, time_limit_s or trace.num_requests"
            )
        num_ignored = result.num_by_status["num_ignored"]
        if num_ignored:
            raise ValueError(
                f"{num_ignored:,} of {len(result.status):,} requests are longer than the engine admits, and no load: "
                "leave them out with trace.max_total_tokens, or raise model.max_model_len"
            )
        for objective in self.slo.every if is_cut_off(result) else ():
            if objective.needs_deadline and objective.value(result) is None:
                raise ValueError(
                    f"time_limit_s={self.time_limit_s:g} is too short to judge {objective.name} at {qps:g} requests/s: "
                    "every request may still meet its bound"
                )


def _is_burst(result: Result) -> bool:
    """Return whether requests arrived for less time than two of them take."""
    e2e_s = result.latencies["e2e_s"].statistic("p50")
    arrival_s = result.requests["arrival_s"][result.counted]
    return e2e_s is None or float(np.ptp(arrival_s)) < 2 * e2e_s


def lasting_warnings(result: Result) -> list[Warning]:
    """Return the warnings about the deployment.

    Those about the rate or the time limit are left out.
    """
    of_this_trial = ("overloaded", "unfinished", "not_arrived")
    return [warning for warning in result.warnings if warning.kind not in of_this_trial]
