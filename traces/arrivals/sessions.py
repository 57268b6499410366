"""Arrivals that depend on answers: sessions, and a closed loop of users."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from traces.arrivals.basic import Gamma, gamma_gaps, require_limit, require_rate
from traces.shared.value_checks import each, integer, number
from traces.shared.warnings import Warning
from traces.trace import PrefixBlocks, Trace

MOST_USERS = 10**6


def draw_think_times(mean_s: float, cv: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw gamma-distributed think times, float64[count]; with cv=0 all are equal."""
    return gamma_gaps(cv, count, rng) * mean_s


@dataclass(frozen=True)
class Sessions:
    """Sessions that start at random.

    Each later turn follows a think time after the previous answer.

    Attributes:
        qps: Mean rate, requests per second; sessions start at this rate over their mean number of turns.
        cv: Coefficient of variation of the gamma-distributed gaps between session starts; 1: a Poisson process.
        think_s: Mean think time, seconds, from an answer to the next turn; None: the think times of the trace.
        think_cv: Coefficient of variation of the gamma-distributed think times; 0: all equal.
        max_concurrency: Most requests in flight: others are sent when one ends; None: no limit.
    """

    qps: float
    cv: float = 1.0
    think_s: float | None = 30.0
    think_cv: float = 1.0
    max_concurrency: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_rate(self.qps)
        require_limit(self.max_concurrency)
        number("cv", self.cv, 0.01, 100)
        number("think_s", self.think_s, 0, 1e9, optional=True)
        number("think_cv", self.think_cv, 0, 100)

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival and think times.

        First turns get arrival times, later turns think times.

        Raises:
            ValueError: The trace has no sessions, or `think_s` is None and the trace lacks think times.
        """
        if trace.session is None:
            raise ValueError(
                "arrival=sessions needs a trace with sessions, and this one has none; "
                "trace.find_sessions=true finds them in a file with prefix blocks"
            )
        starts_rng, think_rng = rng.spawn(2)
        session, turn = trace.turns()
        is_later = turn > 0
        num_sessions = int(session.max()) + 1
        starts = Gamma(self.qps * num_sessions / len(trace), self.cv).times_s(num_sessions, starts_rng)
        think_s = self._think_times(trace, is_later, think_rng)
        arrival_s = np.where(is_later, np.nan, starts[session])
        return trace.arriving(arrival_s, think_s if is_later.any() else None, self.max_concurrency)

    def _think_times(self, trace: Trace, is_later: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float64]:
        think_s = np.full(len(trace), np.nan)
        if self.think_s is not None:
            think_s[is_later] = draw_think_times(self.think_s, self.think_cv, int(np.count_nonzero(is_later)), rng)
            return think_s
        if trace.think_s is None or np.isnan(trace.think_s[is_later]).any():
            raise ValueError("think_s=null needs a trace with a think time in each later turn, and this one has none")
        think_s[is_later] = trace.think_s[is_later]
        return think_s


@dataclass(frozen=True)
class ClosedLoop:
    """A closed loop of concurrent users.

    Each user sends the next request a think time after the previous answer. A user goes through a session turn by turn
    and then takes the next session of the trace. A request in no session is a session of one turn.

    Attributes:
        users: Number of concurrent users.
        think_s: Mean think time, seconds, from an answer to the user's next request.
        think_cv: Coefficient of variation of the gamma-distributed think times; 0: all equal.
        ramp_s: Duration over which the users start, equally spaced, seconds; 0: all start at time 0.
    """

    users: int
    think_s: float = 0.0
    think_cv: float = 1.0
    ramp_s: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        integer("users", self.users, 1, MOST_USERS)
        each(number, self, ("think_s", "ramp_s"), 0, 1e9)
        number("think_cv", self.think_cv, 0, 100)

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival and think times.

        The first request of each user gets an arrival time, every other request a think time.
        """
        session, turn = trace.turns()
        is_first = (turn == 0) & (session < self.users)
        think_s = np.where(is_first, np.nan, draw_think_times(self.think_s, self.think_cv, len(trace), rng))
        arrival_s = np.where(is_first, session * self.ramp_s / self.users, np.nan)
        closed = trace.arriving(arrival_s, None if is_first.all() else think_s)
        num_sessions = int(session.max()) + 1
        if num_sessions >= self.users:
            return closed
        text = f"only {num_sessions:,} of {self.users:,} users send requests, as the trace has no more sessions"
        return replace(closed, notes=(*closed.notes, Warning("idle_users", text)))


def find_sessions(trace: Trace) -> NDArray[np.int64]:
    """Infer the sessions of requests from their prefix blocks or lengths.

    With prefix blocks, a request is the next turn of the earlier request with the longest prompt, in full blocks, that
    its own prompt begins with, provided that its prompt is long enough to hold the answer too and that the earlier
    request was the first with its last full block. The last condition keeps apart conversations that only share a
    system prompt. If several requests continue the same one, the first of them is its next turn, and the others start
    sessions of their own.

    Without prefix blocks and arrival times, as in files that list the rounds of each chat in order, a row is the next
    turn of the row above if its prompt is long enough to hold that row's prompt and answer.

    Returns:
        int64[num_requests], session of each request, numbered by first turns.

    Raises:
        ValueError: The trace has arrival times and no prefix blocks, or their size is unknown.
    """
    blocks = trace.prefix
    if blocks is None and trace.arrival_s is None:
        continues = trace.prompt_tokens[1:] >= (trace.prompt_tokens + trace.output_tokens)[:-1]
        return np.cumsum(np.concatenate([[0], ~continues]))
    if blocks is None or blocks.block_tokens is None:
        raise ValueError(
            "find_sessions=true needs prefix blocks of a known size, or rounds of chats in order without arrival times"
        )
    return _sessions_by_prefix(trace, blocks, blocks.block_tokens)


def _sessions_by_prefix(trace: Trace, blocks: PrefixBlocks, block_tokens: int) -> NDArray[np.int64]:
    num_full = trace.prompt_tokens // block_tokens
    # Only full blocks of the prompts: the answer may fill up the last block of a prompt.
    prompt_ids = blocks.ids[blocks.first_mask(num_full)]
    blocks = PrefixBlocks.of_lengths(prompt_ids, np.minimum(np.diff(blocks.starts), num_full))
    first_request = _first_requests(blocks)
    latest_turns: dict[int, int] = {}  # by the last full block of their prompts
    session = np.empty(len(trace), dtype=np.int64)
    prompts, totals = trace.prompt_tokens.tolist(), (trace.prompt_tokens + trace.output_tokens).tolist()
    num_sessions = 0
    for request, prompt in enumerate(prompts):
        ids = blocks.of(request).tolist()
        block = next((block for block in reversed(ids) if block in latest_turns), None)
        if block is not None and prompt >= totals[latest_turns[block]]:
            session[request] = session[latest_turns.pop(block)]
        else:
            session[request] = num_sessions
            num_sessions += 1
        if 0 < prompt // block_tokens == len(ids) and first_request[ids[-1]] == request:
            latest_turns[ids[-1]] = request
    return session


def _first_requests(blocks: PrefixBlocks) -> dict[int, int]:
    """Return the first request with each block, by block id."""
    request = np.repeat(np.arange(len(blocks)), np.diff(blocks.starts))
    ids, first = np.unique(blocks.ids, return_index=True)
    return dict(zip(ids.tolist(), request[first].tolist(), strict=True))
