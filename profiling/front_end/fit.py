"""Constants of a front end, fitted to runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from profiling.front_end.client import FrontEndError
from profiling.front_end.summary import RunSummary

MAX_LOOP_SHARE = 0.9  # beyond it, messages pile up and are handled together


@dataclass(frozen=True)
class Constants:
    """Costs of a front end, in seconds.

    Attributes:
        request_s: The event loop's time per request.
        step_s: The event loop's time per step of the engine.
        token_s: The event loop's time per streamed token.
        latency_s: What else passes before the engine has a request of an idle server: tokenizer and hops of threads.
    """

    request_s: float
    step_s: float
    token_s: float
    latency_s: float


@dataclass(frozen=True)
class Fit:
    """Fitted constants and how well they reproduce the runs.

    Attributes:
        constants: The constants.
        residuals: Of each run, fitted over measured time of the event loop, minus 1; None for runs that were left out.
    """

    constants: Constants
    residuals: list[float | None]


def fit(runs: Sequence[RunSummary]) -> Fit:
    """Fit the event loop's time to requests, steps and tokens.

    Least squares of relative errors, with constants of at least 0. Runs whose event loop is nearly always busy are
    left out.

    Args:
        runs: Runs at several rates, and one with an output of one token: only there, requests come without tokens.

    Raises:
        FrontEndError: Too few runs are left, or none of them has outputs of one token.
    """
    usable = [run for run in runs if run.loop_share <= MAX_LOOP_SHARE]
    idle = [run for run in usable if run.output_tokens == 1]
    if len(usable) < 3 or not idle:
        raise FrontEndError("the server was saturated in too many runs to fit its costs: use lower --rates")
    counts = np.array([_counts(run) for run in usable], np.float64)
    measured_s = np.array([run.cpu.loop_s for run in usable])
    (request_s, step_s, token_s), _ = nnls(counts / measured_s[:, None], np.ones(len(usable)))
    latency_s = max(0.0, min(run.before_engine.p50_s for run in idle) - request_s)
    constants = Constants(float(request_s), float(step_s), float(token_s), float(latency_s))
    return Fit(constants, [_residual(constants, run) if run in usable else None for run in runs])


def _counts(run: RunSummary) -> tuple[int, int, int]:
    return run.num_requests, run.num_steps, run.num_tokens


def _residual(constants: Constants, run: RunSummary) -> float:
    costs = constants.request_s, constants.step_s, constants.token_s
    return float(np.dot(_counts(run), costs)) / run.cpu.loop_s - 1
