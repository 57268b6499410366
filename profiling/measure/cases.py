"""Cases to measure: operators, shapes and sizes. Needs no GPU."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
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
# A chunk on its context beside decodes on theirs: 135 mixed batches.
MIXED_CHUNKS = (64, 256, 512, 1024, 2048)
MIXED_CONTEXTS = (0, 2048, 8192)
MIXED_BATCHES = (4, 16, 64)
MIXED_DECODE_CONTEXTS = (64, 1024, 4096)
# Number formats of matrix products that can be measured.
FORMATS = (BF16, FP8) = ("bf16", "fp8")
FP8_GRAIN = 16  # widths of a product in fp8 are multiples of this number
LAYER_OPERATORS = (
    "input_norm",
    "qkv_proj",
    "rope",
    "kv_write",
    "o_proj",
    "residual_add",
    "post_attention_norm",
    "add_norm",
    "gate_up_proj",
    "activation",
    "down_proj",
)
HEAD_OPERATORS = ("final_norm", "lm_head", "sampling", "top_k_top_p")
ATTENTION_OPERATORS = ("prefill_attention", "decode_attention", "mixed_attention")
COLLECTIVES = ("all_reduce", "custom_all_reduce", "send")
# Profiles do without them: a short time budget goes to the others first.
LATER = ("mixed_attention", "top_k_top_p")
OTHER_OPERATORS = ("embedding", "engine", *COLLECTIVES)
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

    @property
    def operator(self) -> str:
        """Name of the operator; a family without that column is one operator."""
        return str(self["operator"]) if "operator" in FAMILIES[self.family] else self.family


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


def layer_cases(
    model: Model,
    degrees: Sequence[int],
    operators: Sequence[str],
    max_tokens: int,
    formats: Sequence[str] = (BF16,),
) -> list[Case]:
    """Return the cases of one GPU, the most informative first.

    Args:
        model: The model.
        degrees: Tensor-parallel degrees; one GPU measures one shard of each.
        operators: Names from OPERATORS; collectives and the engine have cases of their own and are ignored.
        max_tokens: Largest number of tokens.
        formats: Number formats of the matrix products of layers, from FORMATS.

    Raises:
        ValueError: The model cannot be split into that many shards.
    """
    cases: dict[Case, None] = {}
    for degree in degrees:
        model.require_divisible(degree)
        attention = (*_attention(model, degree, max_tokens), *_mixed_attention(model, degree, max_tokens))
        for case in (*_linear(model, degree, max_tokens, formats), *attention):
            if case.operator in operators:
                cases[case] = None
    return sorted(cases, key=_order)


def _linear(model: Model, degree: int, max_tokens: int, formats: Sequence[str]) -> Iterator[Case]:
    """Yield matrix products and elementwise operators, apart and fused."""
    parts = [part for fused in (False, True) for part in layer_operators(model, degree, fused=fused)]
    layer = [operator for part in parts for operator in part]
    sampler = Elementwise("top_k_top_p", model.vocab_size, degree)
    per_sequence = (*head_operators(model, degree), sampler)
    for operator in (*layer, embedding(model, degree), *per_sequence):
        in_layer = operator not in per_sequence
        for tokens in token_grid(max_tokens if in_layer else min(max_tokens, MAX_SEQUENCES)):
            if isinstance(operator, MatMul):
                yield from _matmuls(model, degree, operator, tokens, formats if in_layer else (BF16,))
            elif isinstance(operator, Elementwise):
                yield Case("elementwise", (model.name, degree, operator.name, operator.width, tokens))


def _matmuls(model: Model, degree: int, operator: MatMul, tokens: int, formats: Sequence[str]) -> Iterator[Case]:
    """Yield a matrix product in each format that supports its widths."""
    name = "gate_up_proj" if operator.name == "up_proj" else operator.name
    for dtype in formats:
        if dtype == BF16 or not (operator.k % FP8_GRAIN or operator.n % FP8_GRAIN):
            yield Case("matmul", (model.name, degree, name, dtype, operator.k, operator.n, tokens))


def _attention(model: Model, degree: int, max_tokens: int) -> Iterator[Case]:
    shape = _shape(model, degree)
    for chunk in (*CHUNKS, *MORE_CHUNKS):
        for context in CONTEXTS:
            if chunk + context <= max_tokens:
                yield Case("attention", (model.name, degree, "prefill_attention", *shape, chunk, 1, context))
    for batch in BATCHES:
        for context in CONTEXTS[1:]:
            if context <= max_tokens:
                yield Case("attention", (model.name, degree, "decode_attention", *shape, batch, batch, context))


def _mixed_attention(model: Model, degree: int, max_tokens: int) -> Iterator[Case]:
    shape = _shape(model, degree)
    sizes = product(MIXED_CHUNKS, MIXED_CONTEXTS, MIXED_BATCHES, MIXED_DECODE_CONTEXTS)
    for chunk, context, num_decodes, decode_context in sizes:
        if chunk + context <= max_tokens and decode_context <= max_tokens:
            values = (model.name, degree, *shape, chunk, context, num_decodes, decode_context)
            yield Case("mixed_attention", values)


def _shape(model: Model, degree: int) -> tuple[int, int, int, str, int]:
    """Return query heads, KV heads, head size, KV format and window."""
    attention = attention_of(model, degree)
    return attention.q_heads, attention.kv_heads, attention.head_dim, attention.kv_dtype, 0


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
    if case.operator in LATER:
        rank = max(rank, 2)
    size = sum(tokens > bound for bound in (DENSE_TO, TILED_TO))
    return rank, case["tp"], size, case.operator, tokens
