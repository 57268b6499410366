"""Arrivals that depend on answers: sessions whose turns wait for each other, and a closed loop of users."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from traces.arrivals.basic import Gamma, gamma_gaps, require_rate
from traces.shared.value_checks import integer, number
from traces.trace import PrefixBlocks, Trace

MOST_USERS = 10**6


def thinking(mean_s: float, cv: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw times between an answer and the next request: float64[count], gamma-distributed, or all the same."""
    return gamma_gaps(cv, count, rng) * mean_s


def _require_thinking(mean_s: float, cv: float) -> None:
    number("think_s", mean_s, 0, 1e9)
    number("think_cv", cv, 0, 100)


@dataclass(frozen=True)
class Sessions:
    """Sessions start at random; each later turn comes a think time after the answer to the one before.

    Attributes:
        qps: Requests per second in the mean: sessions start at this rate over their mean number of turns.
        cv: Coefficient of variation of the gaps between starts, gamma-distributed; 1: a Poisson process.
        think_s: Mean time between an answer and the next turn, seconds; None: the think times of the trace.
        think_cv: Coefficient of variation of the think times, gamma-distributed; 0: all the same.
    """

    qps: float
    cv: float = 1.0
    think_s: float | None = 30.0
    think_cv: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_rate(self.qps)
        number("cv", self.cv, 0.01, 100)
        _require_thinking(0.0 if self.think_s is None else self.think_s, self.think_cv)

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival times of first turns and think times of the others.

        Raises:
            ValueError: The trace has no sessions, or no think times of its own that were asked for.
        """
        if trace.session is None:
            raise ValueError(
                "arrival=sessions needs a trace with sessions, and this one has none; "
                "trace.find_sessions=true finds them in a file with prefix blocks"
            )
        of_starts, of_thinking = rng.spawn(2)
        session, turn = trace.turns()
        later = turn > 0
        num_sessions = int(session.max()) + 1
        starts = Gamma(self.qps * num_sessions / len(trace), self.cv).times_s(num_sessions, of_starts)
        think_s = self._think_s(trace, later, of_thinking)
        return trace.arriving(np.where(later, np.nan, starts[session]), think_s if later.any() else None)

    def _think_s(self, trace: Trace, later: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float64]:
        drawn = np.full(len(trace), np.nan)
        if self.think_s is not None:
            drawn[later] = thinking(self.think_s, self.think_cv, int(np.count_nonzero(later)), rng)
            return drawn
        if trace.think_s is None or np.isnan(trace.think_s[later]).any():
            raise ValueError("think_s=null needs a trace with a think time in each later turn, and this one has none")
        drawn[later] = trace.think_s[later]
        return drawn


@dataclass(frozen=True)
class ClosedLoop:
    """A number of users, each of whom sends the next request a think time after the answer to the last.

    A user goes through a session turn by turn and then takes the next one of the trace; a request in no session
    is a session of one turn.

    Attributes:
        users: Concurrent users.
        think_s: Mean time between an answer and the user's next request, seconds.
        think_cv: Coefficient of variation of the think times, gamma-distributed; 0: all the same.
        ramp_s: The users begin at equal distances within so many seconds; 0: all at time 0.
    """

    users: int
    think_s: float = 0.0
    think_cv: float = 1.0
    ramp_s: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        integer("users", self.users, 1, MOST_USERS)
        _require_thinking(self.think_s, self.think_cv)
        number("ramp_s", self.ramp_s, 0, 1e9)

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival times of the users' first requests and think times of the others."""
        session, turn = trace.turns()
        first = (turn == 0) & (session < self.users)
        think_s = np.where(first, np.nan, thinking(self.think_s, self.think_cv, len(trace), rng))
        arrival_s = np.where(first, session * self.ramp_s / self.users, np.nan)
        closed = trace.arriving(arrival_s, None if first.all() else think_s)
        num_sessions = int(session.max()) + 1
        if num_sessions >= self.users:
            return closed
        note = f"of {self.users:,} users only {num_sessions:,} have anything to send, as the trace has no more sessions"
        return replace(closed, notes=(*closed.notes, note))


def find_sessions(trace: Trace) -> NDArray[np.int64]:
    """Find out which requests are turns of one session: int64[num_requests], numbered in order of first turns.

    With prefix blocks, a request is the next turn after the last one whose whole blocks its prompt begins with, if
    its prompt has room for the answer too and if that request was the first with its last whole block: what several
    conversations begin with, such as a system prompt, makes none of them the next turn of another. If several
    requests go on from one, the first of them does; the others begin sessions of their own.

    Without blocks and arrival times, as in files of the rounds of chats one after the other, a row is the next turn
    after the row above if its prompt has room for that row's prompt and answer.

    Raises:
        ValueError: The trace has arrival times and no prefix blocks, or their size is unknown.
    """
    blocks = trace.prefix
    if blocks is None and trace.arrival_s is None:
        goes_on = trace.prompt_tokens[1:] >= (trace.prompt_tokens + trace.output_tokens)[:-1]
        return np.cumsum(np.concatenate([[0], ~goes_on]))
    if blocks is None or blocks.block_tokens is None:
        raise ValueError(
            "find_sessions=true needs prefix blocks of a known size, or rounds of chats in order without arrival times"
        )
    return _by_prefix(trace, blocks, blocks.block_tokens)


def _by_prefix(trace: Trace, blocks: PrefixBlocks, block_tokens: int) -> NDArray[np.int64]:
    whole = trace.prompt_tokens // block_tokens
    # Whole blocks of prompts alone: the last one of a prompt may be filled by the answer of the turn before.
    of_prompts = blocks.ids[blocks.within(whole)]
    blocks = PrefixBlocks.of_lengths(of_prompts, np.minimum(np.diff(blocks.starts), whole))
    first_with = _first_with(blocks)
    ends: dict[int, int] = {}  # latest turns of sessions by their last whole blocks
    session = np.empty(len(trace), dtype=np.int64)
    prompts, totals = trace.prompt_tokens.tolist(), (trace.prompt_tokens + trace.output_tokens).tolist()
    num_sessions = 0
    for request, prompt in enumerate(prompts):
        ids = blocks.of(request).tolist()
        end = next((one for one in reversed(ids) if one in ends), None)
        if end is not None and prompt >= totals[ends[end]]:
            session[request] = session[ends.pop(end)]
        else:
            session[request] = num_sessions
            num_sessions += 1
        if 0 < prompt // block_tokens == len(ids) and first_with[ids[-1]] == request:
            ends[ids[-1]] = request
    return session


def _first_with(blocks: PrefixBlocks) -> dict[int, int]:
    """Return the first request that has each block."""
    owner = np.repeat(np.arange(len(blocks)), np.diff(blocks.starts))
    ids, first = np.unique(blocks.ids, return_index=True)
    return dict(zip(ids.tolist(), owner[first].tolist(), strict=True))
