"""Generated conversations, in which a prompt holds all earlier turns."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traces.generators.lengths import Lengths
from traces.generators.synthetic import require_count, stratified_levels
from traces.shared.value_checks import each, integer
from traces.trace import Trace

Ints = NDArray[np.int64]
# Rounds without a single turn that fits, after which the generator gives up.
_MOST_ATTEMPTS = 100


@dataclass(frozen=True)
class Conversations:
    """Sessions of several turns, whose requests are consecutive in the trace.

    The prompt of a turn holds all earlier questions and answers and the new question. A conversation ends before a
    turn that would exceed `max_total_tokens`.

    Attributes:
        turns: Distribution of the number of turns.
        question: Distribution of the tokens that a user adds in a turn.
        opening: Distribution of the prompt tokens of first turns, without `system_tokens`; None: that of `question`.
        answer: Distribution of the answer tokens.
        max_total_tokens: Longest prompt and output together.
        system_tokens: Length of the system prompt that every conversation starts with, tokens.
        num_requests: Turns to generate; the last conversation may be cut short.
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
        each(require_count, self, ("num_requests", "max_total_tokens"))
        integer("system_tokens", self.system_tokens, 0, self.max_total_tokens - 1)

    def load(self, rng: np.random.Generator) -> Trace:
        """Generate the requests.

        Raises:
            ValueError: No first turn fits into max_total_tokens.
        """
        parts: list[tuple[Ints, Ints, Ints]] = []
        num_sessions = num_turns = attempts = 0
        while num_turns < self.num_requests:
            count = max(16, (self.num_requests - num_turns) // 4)
            session, prompt, output = self._generate(count, rng)
            parts.append((session + num_sessions, prompt, output))
            num_sessions += count
            num_turns += len(session)
            attempts += num_turns == 0
            if attempts > _MOST_ATTEMPTS:
                raise ValueError(f"max_total_tokens={self.max_total_tokens} leaves no room for first turns")
        session, prompt, output = (np.concatenate(arrays)[: self.num_requests] for arrays in zip(*parts, strict=True))
        return Trace(prompt, output, session=session)

    def _generate(self, count: int, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
        """Generate `count` conversations.

        Returns:
            Session, prompt tokens and output tokens of each turn, each int64[num_turns].
        """
        # Every turn takes at least a token.
        turns = np.clip(_round(self.turns.quantile(stratified_levels(count, rng))), 1, self.max_total_tokens)
        session = np.repeat(np.arange(count), turns)
        question, answer = (
            np.clip(_round(lengths.quantile(stratified_levels(len(session), rng))), 1, self.max_total_tokens)
            for lengths in (self.question, self.answer)
        )
        if self.opening is not None:
            first = _round(self.opening.quantile(stratified_levels(count, rng)))
            question[np.cumsum(turns) - turns] = np.clip(first, 1, self.max_total_tokens)
        cumulated = np.cumsum(question + answer)
        before = np.concatenate([[0], cumulated])[np.cumsum(turns) - turns]
        total = self.system_tokens + cumulated - np.repeat(before, turns)
        fits = total <= self.max_total_tokens
        return session[fits], (total - answer)[fits], answer[fits]


def _round(values: NDArray[np.float64]) -> Ints:
    return np.rint(values).astype(np.int64)
