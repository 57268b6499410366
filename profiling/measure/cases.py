"""Cases to measure: operators, shapes and sizes. Needs no GPU."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from profiling.tables import FAMILIES
from simulator.iteration_time import Elementwise, MatMul, attention_of, embedding, head_operators, layer_operators
from simulator.model import Model

# Every number of tokens up to DENSE_TO; then steps of 8 up to TILED_TO, and the first row of each tile.
DENSE_TO = 512
TILED_TO = 2048
# Kernels work on tiles of a multiple of this many tokens.
TILE = 64
COARSE = ((8192, 64), (32768, 256), (1 << 20, 1024))
MAX_SEQUENCES = 512
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
    """One measurement to make.

    Attributes:
        family: Operator family, which names the table.
        values: Values of the family's key columns, in order.
    """

    family: str
    values: tuple[Any, ...]

    def __getitem__(self, column: str) -> Any:
        """Return the value of a key column."""
        return self.values[FAMILIES[self.family].index(column)]


def token_grid(max_tokens: int) -> list[int]:
    """Return the numbers of tokens to measure, up to a maximum."""
    tiled = {*range(DENSE_TO + 8, TILED_TO + 1, 8), *range(DENSE_TO + 1, TILED_TO, TILE)}
    grid = [*range(1, DENSE_TO + 1), *sorted(tiled)]
    for end, step in COARSE:
        grid += range(grid[-1] + step, end + 1, step)
    return [tokens for tokens in grid if tokens <= max_tokens]


def coarseness(size: int) -> int:
    """Return the rank of a size, lower for rounder sizes.

    Powers of two have rank 0.
    """
    if size & (size - 1) == 0:
        return 0
    return next(rank for rank, grain in enumerate((TILE, 8, 1), start=1) if size % grain == 0)


def layer_cases(model: Model, degrees: Sequence[int], operators: Sequence[str], max_tokens: int) -> list[Case]:
    """Return the cases of one GPU, the most informative first.

    Args:
        model: The model.
        degrees: Tensor-parallel degrees; one GPU measures one shard of each.
        operators: Names from OPERATORS; collectives and the engine have cases of their own and are ignored.
        max_tokens: Largest number of tokens.

    Raises:
        ValueError: The model cannot be split into that many shards.
    """
    cases: dict[Case, None] = {}
    for degree in degrees:
        model.require_divisible(degree)
        for case in (*_linear(model, degree, max_tokens), *_attention(model, degree, max_tokens)):
            if case["operator"] in operators:
                cases[case] = None
    return sorted(cases, key=_order)


def _linear(model: Model, degree: int, max_tokens: int) -> Iterator[Case]:
    before, after = layer_operators(model, degree)
    per_sequence = head_operators(model, degree)
    for operator in (*before, *after, embedding(model, degree), *per_sequence):
        limit = min(max_tokens, MAX_SEQUENCES) if operator in per_sequence else max_tokens
        name = "gate_up_proj" if operator.name == "up_proj" else operator.name
        for tokens in token_grid(limit):
            if isinstance(operator, MatMul):
                yield Case("matmul", (model.name, degree, name, operator.dtype, operator.k, operator.n, tokens))
            elif isinstance(operator, Elementwise):
                yield Case("elementwise", (model.name, degree, name, operator.width, tokens))


def _attention(model: Model, degree: int, max_tokens: int) -> Iterator[Case]:
    attention = attention_of(model, degree)
    shape = (attention.q_heads, attention.kv_heads, attention.head_dim, attention.kv_dtype, 0)
    for chunk in (*CHUNKS, *MORE_CHUNKS):
        for context in CONTEXTS:
            if chunk + context <= max_tokens:
                yield Case("attention", (model.name, degree, "prefill_attention", *shape, chunk, 1, context))
    for batch in BATCHES:
        for context in CONTEXTS[1:]:
            if context <= max_tokens:
                yield Case("attention", (model.name, degree, "decode_attention", *shape, batch, batch, context))


def _order(case: Case) -> tuple[int, int, int, str, int]:
    """Return the sort key of a case.

    A short time budget leaves out large sizes of every operator alike.
    """
    tokens = case["num_tokens"]
    rank = coarseness(tokens)
    if case.family == "attention":
        rank = max(rank, coarseness(max(1, case["context"])))
    elif case.family == "matmul" and tokens % TILE == 1:
        rank = min(rank, 1)  # the first row of a tile costs as much as the whole tile
    size = sum(tokens > bound for bound in (DENSE_TO, TILED_TO))
    return rank, case["tp"], size, case["operator"], tokens
