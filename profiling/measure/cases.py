"""What is measured: operators, shapes and sizes. Knows no GPU."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from profiling.tables import FAMILIES
from simulator.iteration_time import MatMul, attention_of, embedding, head_operators, layer_operators
from simulator.model import Model

# Every number of tokens to the first; then steps of 8 to the second, and the first row of each tile.
DENSE_TO = 512
TILED_TO = 2048
# Kernels work on tiles of a multiple of so many tokens.
TILE = 64
COARSE = ((8192, 64), (32768, 256), (1 << 20, 1024))
MOST_SEQUENCES = 512
CHUNKS = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 320, 384, 448, 512, 640, 768, 1024, 1536, 2048, 3072, 4096)
MORE_CHUNKS = (6144, 8192, 12288, 16384, 24576, 32768)
CONTEXTS = (0, 16, 64, 128, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768)
BATCHES = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 24, 27, 28, 32, 40, 48, 54, 55, 64, 80, 96, 112, 128, 160, 192, 256)
LAYER_OPERATORS = (
    "input_norm",
    "qkv_proj",
    "rope",
    "kv_write",
    "o_proj",
    "residual_add",
    "post_attention_norm",
    "gate_up_proj",
    "activation",
    "down_proj",
)
HEAD_OPERATORS = ("final_norm", "lm_head", "sampling")
ATTENTION_OPERATORS = ("prefill_attention", "decode_attention")
OTHER_OPERATORS = ("embedding", "engine", "all_reduce", "send")
OPERATORS = (*LAYER_OPERATORS, *HEAD_OPERATORS, *ATTENTION_OPERATORS, *OTHER_OPERATORS)


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
        family: Family of its table.
        values: Values of the family's columns, in their order.
    """

    family: str
    values: tuple[Any, ...]

    def __getitem__(self, column: str) -> Any:
        """Value of a column."""
        return self.values[FAMILIES[self.family].index(column)]


def token_grid(most_tokens: int) -> list[int]:
    """Numbers of tokens up to the model's maximum."""
    tiled = {*range(DENSE_TO + 8, TILED_TO + 1, 8), *range(DENSE_TO + 1, TILED_TO, TILE)}
    grid = [*range(1, DENSE_TO + 1), *sorted(tiled)]
    for end, step in COARSE:
        grid += range(grid[-1] + step, end + 1, step)
    return [tokens for tokens in grid if tokens <= most_tokens]


def coarseness(number: int) -> int:
    """How late a size is measured: powers of two first, then rounder sizes before less round ones."""
    if number & (number - 1) == 0:
        return 0
    return next(rank for rank, grain in enumerate((TILE, 8, 1), start=1) if number % grain == 0)


def layer_cases(model: Model, degrees: Sequence[int], operators: Sequence[str], most_tokens: int) -> list[Case]:
    """Cases of one GPU: all operators and sizes, those that say most first.

    Args:
        model: The model.
        degrees: Tensor-parallel degrees whose shards are measured, on one GPU.
        operators: Names among OPERATORS; collectives and the engine are not cases of one GPU's kernels.
        most_tokens: Largest number of tokens.

    Raises:
        ValueError: A degree does not divide the model.
    """
    found: dict[Case, None] = {}
    for degree in degrees:
        model.require_divisible(degree)
        for case in (*_linear(model, degree, most_tokens), *_attention(model, degree, most_tokens)):
            if case["operator"] in operators:
                found[case] = None
    return sorted(found, key=_when)


def _linear(model: Model, degree: int, most_tokens: int) -> Iterator[Case]:
    before, after = layer_operators(model, degree)
    per_sequence = head_operators(model, degree)
    for operator in (*before, *after, embedding(model, degree), *per_sequence):
        most = min(most_tokens, MOST_SEQUENCES) if operator in per_sequence else most_tokens
        name = "gate_up_proj" if operator.name == "up_proj" else operator.name
        for tokens in token_grid(most):
            if isinstance(operator, MatMul):
                yield Case("matmul", (model.name, degree, name, operator.k, operator.n, tokens))
            else:
                yield Case("elementwise", (model.name, degree, name, operator.width, tokens))


def _attention(model: Model, degree: int, most_tokens: int) -> Iterator[Case]:
    attention = attention_of(model, degree)
    shape = (attention.q_heads, attention.kv_heads, attention.head_dim)
    for chunk in (*CHUNKS, *MORE_CHUNKS):
        for context in CONTEXTS:
            if chunk + context <= most_tokens:
                yield Case("attention", (model.name, degree, "prefill_attention", *shape, chunk, 1, context))
    for batch in BATCHES:
        for context in CONTEXTS[1:]:
            if context <= most_tokens:
                yield Case("attention", (model.name, degree, "decode_attention", *shape, batch, batch, context))


def _when(case: Case) -> tuple[int, int, int, str, int]:
    """When a case is measured: if time runs out, all operators lack about the same sizes, large ones."""
    tokens = case["num_tokens"]
    late = coarseness(tokens)
    if case.family == "attention":
        late = max(late, coarseness(max(1, case["context"])))
    elif case.family == "matmul" and tokens % TILE == 1:
        late = min(late, 1)  # the first row of a tile costs as much as all of it
    size = sum(tokens > bound for bound in (DENSE_TO, TILED_TO))
    return late, case["tp"], size, case["operator"], tokens
