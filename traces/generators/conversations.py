"""Generated conversations: a turn's prompt holds all turns before it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traces.generators.lengths import Lengths
from traces.generators.synthetic import require_count, stratified_levels
from traces.trace import Trace

Ints = NDArray[np.int64]
# Conversations without any turn that fits, after which a generator gives up.
_MOST_ATTEMPTS = 100


@dataclass(frozen=True)
class Conversations:
    """Sessions of several turns, the requests of each in a row.

    The prompt of a turn is everything said so far and the new question. A conversation ends before a turn that
    would be longer than `max_total_tokens`.

    Attributes:
        turns: Distribution of the number of turns.
        question: Distribution of what a user adds in a turn, tokens.
        opening: Distribution of the prompts of first turns, without `system_tokens`; None: as of a question.
        answer: Distribution of the answers, tokens.
        max_total_tokens: Longest prompt and output together.
        system_tokens: Tokens in front of the first question, the same in each conversation.
        num_requests: Turns to generate, the last conversation may be cut short.
    """

    turns: Lengths
    question: Lengths
    answer: Lengths
    max_total_tokens: int
    system_tokens: int = 0
    num_requests: int = 512
    opening: Lengths | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_count("num_requests", self.num_requests)
        require_count("max_total_tokens", self.max_total_tokens)
        system = self.system_tokens
        if not isinstance(system, int) or isinstance(system, bool) or not 0 <= system < self.max_total_tokens:
            raise ValueError(f"system_tokens must be an integer from 0 to below max_total_tokens, got {system!r}")

    def load(self, rng: np.random.Generator) -> Trace:
        """Generate the requests.

        Raises:
            ValueError: Not even first turns fit into max_total_tokens.
        """
        parts: list[tuple[Ints, Ints, Ints]] = []
        num_sessions = num_turns = attempts = 0
        while num_turns < self.num_requests:
            count = max(16, (self.num_requests - num_turns) // 4)
            session, prompt, output = self._some(count, rng)
            parts.append((session + num_sessions, prompt, output))
            num_sessions += count
            num_turns += len(session)
            attempts += num_turns == 0
            if attempts > _MOST_ATTEMPTS:
                raise ValueError(f"max_total_tokens={self.max_total_tokens} leaves no room for first turns")
        session, prompt, output = (np.concatenate(one)[: self.num_requests] for one in zip(*parts, strict=True))
        return Trace(prompt, output, session=session)

    def _some(self, count: int, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
        """Generate conversations: session, prompt and output of each turn, int64[num_turns]."""
        # More turns than tokens there cannot be.
        turns = np.clip(_whole(self.turns.quantile(stratified_levels(count, rng))), 1, self.max_total_tokens)
        session = np.repeat(np.arange(count), turns)
        question, answer = (
            np.clip(_whole(one.quantile(stratified_levels(len(session), rng))), 1, self.max_total_tokens)
            for one in (self.question, self.answer)
        )
        if self.opening is not None:
            first = _whole(self.opening.quantile(stratified_levels(count, rng)))
            question[np.cumsum(turns) - turns] = np.clip(first, 1, self.max_total_tokens)
        said = np.cumsum(question + answer)
        before = np.concatenate([[0], said])[np.cumsum(turns) - turns]
        total = self.system_tokens + said - np.repeat(before, turns)
        fits = total <= self.max_total_tokens
        return session[fits], (total - answer)[fits], answer[fits]


def _whole(values: NDArray[np.float64]) -> Ints:
    return np.rint(values).astype(np.int64)
