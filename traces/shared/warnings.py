"""Warnings: reasons to doubt figures."""

from dataclasses import dataclass
from typing import Literal, get_args

# What each kind means is in docs/output.md.
Kind = Literal[
    # of a run
    "overloaded",
    "front_end",
    "stuck",
    "lost",
    "unfinished",
    "early_turns",
    "unsent_turns",
    "not_arrived",
    "nothing_measured",
    "ignored",
    "thinking_users",
    "slo",
    # of its requests
    "rows_skipped",
    "rows_left_out",
    "window_full",
    "requests_left_out",
    "turns_left_out",
    "fewer_requests",
    "idle_users",
    "default_outputs",
    "times_shifted",
    "times_spread",
    "times_unused",
    "rows_sorted",
    # of its deployment
    "no_sessions",
    "synchronous_scheduler",
    "no_network",
    "one_process",
    "does_not_fit",
    "too_long",
    # of the times of its iterations
    "no_profile",
    "other_kernels",
    "unmeasured",
    "extrapolated",
    # of a search
    "none_met",
    "all_met",
    "burst",
    "other_rate",
    "not_converged",
    "no_budget",
    # of a saved run that has only the text
]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Warning:
    """A reason to doubt figures.

    Attributes:
        kind: Category, for code.
        text: Message to the user, one or two sentences.
    """

    kind: Kind
    text: str
