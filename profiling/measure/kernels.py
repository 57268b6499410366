"""The operators of a transformer in torch, on buffers of their own."""

from dataclasses import dataclass
from typing import Any

from profiling.measure.cases import Case
from profiling.measure.timing import Build, Kernel

BYTES_PER_VALUE = 2
# Keys and values are cached in blocks of so many tokens, scattered over the cache.
BLOCK_SIZE = 16
EMBEDDING_ROWS = 32000


@dataclass(frozen=True)
class Prepared:
    """An operator that is ready to be timed.

    Attributes:
        build: Makes the kernel on one more copy of the buffers.
        num_bytes: Bytes of one copy.
        kernel_library: What computes it.
    """

    build: Build
    num_bytes: int
    kernel_library: str


class TorchKernels:
    """Makes operators with torch; attention with FlashInfer where it is given.

    Args of every operator are random: zeros would switch fewer transistors and run at higher clocks.
    """

    def __init__(self, torch: Any, device: str, flashinfer: Any = None, gated: bool = True) -> None:
        """Take the modules.

        Args:
            torch: The module.
            device: "cuda" or "cpu".
            flashinfer: The module; None: attention through torch.
            gated: Whether the MLP has a gate.
        """
        self._torch = torch
        self._device = device
        self._flashinfer = flashinfer
        self._gated = gated
        self._generator = torch.Generator(device=device).manual_seed(0)
        self._torch_version = f"torch {torch.__version__}"

    def prepare(self, case: Case) -> Prepared:
        """Return the operator of a case."""
        if case.family == "attention":
            return self._attention(case)
        make = self._matmul if case.family == "matmul" else getattr(self, f"_{case['operator']}")
        values = self._values_of(case)
        return Prepared(lambda: make(case), values * BYTES_PER_VALUE, self._torch_version)

    @staticmethod
    def _values_of(case: Case) -> int:
        tokens: int = case["num_tokens"]
        if case.family == "matmul":
            return int(case["k"] * case["n"] + tokens * (case["k"] + case["n"]))
        return int(case["width"] * tokens)

    def _random(self, *shape: int) -> Any:
        torch = self._torch
        return torch.randn(*shape, device=self._device, dtype=torch.bfloat16, generator=self._generator)

    def _indices(self, below: int, count: int) -> Any:
        return self._torch.randint(0, below, (count,), device=self._device, generator=self._generator)

    # --- layers ------------------------------------------------------------------------------------------

    def _matmul(self, case: Case) -> Kernel:
        x, weight = self._random(case["num_tokens"], case["k"]), self._random(case["n"], case["k"])
        linear = self._torch.nn.functional.linear
        return lambda: linear(x, weight)

    def _input_norm(self, case: Case) -> Kernel:
        hidden = case["width"] // 2
        x, weight = self._random(case["num_tokens"], hidden), self._random(hidden)
        if self._flashinfer is not None:
            return lambda: self._flashinfer.norm.rmsnorm(x, weight)
        rms_norm = self._torch.nn.functional.rms_norm
        return lambda: rms_norm(x, (hidden,), weight)

    _post_attention_norm = _input_norm
    _final_norm = _input_norm

    def _rope(self, case: Case) -> Kernel:
        """Rotate queries and keys of half the values that are read and written, in pairs of halves."""
        torch = self._torch
        width = case["width"] // 4 * 2
        x = self._random(case["num_tokens"], width)
        cosine, sine = self._random(case["num_tokens"], width // 2), self._random(case["num_tokens"], width // 2)

        def rotate() -> Any:
            first, second = x.chunk(2, dim=-1)
            return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)

        return rotate

    def _kv_write(self, case: Case) -> Kernel:
        width, tokens = case["width"] // 2, case["num_tokens"]
        new = self._random(tokens, width)
        cache = self._random(4 * tokens + BLOCK_SIZE, width)
        slots = self._torch.randperm(len(cache), device=self._device)[:tokens]
        return lambda: cache.index_copy_(0, slots, new)

    def _activation(self, case: Case) -> Kernel:
        functional = self._torch.nn.functional
        ffn = case["width"] // (3 if self._gated else 2)
        x = self._random(case["num_tokens"], 2 * ffn if self._gated else ffn)
        if not self._gated:
            return lambda: functional.gelu(x, approximate="tanh")
        if self._flashinfer is not None:
            return lambda: self._flashinfer.activation.silu_and_mul(x)
        gate, up = x[:, :ffn], x[:, ffn:]
        return lambda: functional.silu(gate) * up

    def _residual_add(self, case: Case) -> Kernel:
        hidden = case["width"] // 3
        x, residual = self._random(case["num_tokens"], hidden), self._random(case["num_tokens"], hidden)
        return lambda: self._torch.add(x, residual)

    def _embedding(self, case: Case) -> Kernel:
        table = self._random(EMBEDDING_ROWS, case["width"] // 2)
        tokens = self._indices(EMBEDDING_ROWS, case["num_tokens"])
        embedding = self._torch.nn.functional.embedding
        return lambda: embedding(tokens, table)

    def _sampling(self, case: Case) -> Kernel:
        """Greedy: the largest logit of each sequence."""
        logits = self._random(case["num_tokens"], case["width"])
        return lambda: self._torch.argmax(logits, dim=-1)

    # --- attention ---------------------------------------------------------------------------------------

    def _attention(self, case: Case) -> Prepared:
        is_decode = case["operator"] == "decode_attention"
        length = case["context"] if is_decode else case["context"] + case["num_tokens"]
        cached = case["batch"] * length * 2 * case["kv_heads"] * case["head_dim"]
        queries = case["num_tokens"] * 2 * case["q_heads"] * case["head_dim"]
        if self._flashinfer is not None:
            make = self._paged_decode if is_decode else self._paged_prefill
            library = f"flashinfer {self._flashinfer.__version__}, paged"
        else:
            make = self._dense_decode if is_decode else self._dense_prefill
            library = f"{self._torch_version} SDPA, contiguous"
        return Prepared(lambda: make(case), (cached + queries) * BYTES_PER_VALUE, library)

    def _dense_decode(self, case: Case) -> Kernel:
        """One query against the keys and values of each sequence."""
        heads, kv_heads, width = case["q_heads"], case["kv_heads"], case["head_dim"]
        q = self._random(case["batch"], heads, 1, width)
        k, v = (self._random(case["batch"], kv_heads, case["context"], width) for _ in range(2))
        attention = self._torch.nn.functional.scaled_dot_product_attention
        return lambda: attention(q, k, v, enable_gqa=heads != kv_heads)

    def _dense_prefill(self, case: Case) -> Kernel:
        """A chunk against its context and, causally, itself."""
        from torch.nn.attention.bias import causal_lower_right

        heads, kv_heads, width, chunk = case["q_heads"], case["kv_heads"], case["head_dim"], case["num_tokens"]
        total = case["context"] + chunk
        q = self._random(1, heads, chunk, width)
        # The causal bias does not take grouped heads: each key and value head is shown as often as it is used.
        k, v = (self._random(1, kv_heads, total, width).repeat_interleave(heads // kv_heads, dim=1) for _ in range(2))
        bias = causal_lower_right(chunk, total)
        attention = self._torch.nn.functional.scaled_dot_product_attention
        return lambda: attention(q, k, v, attn_mask=bias)

    def _pages(self, case: Case, length: int) -> tuple[Any, Any, Any, Any]:
        """A paged cache with scattered blocks: cache, first page of each sequence, pages, tokens in the last page."""
        torch = self._torch
        per_sequence = -(-length // BLOCK_SIZE)
        num_pages = case["batch"] * per_sequence
        cache = self._random(num_pages, 2, BLOCK_SIZE, case["kv_heads"], case["head_dim"])
        first = torch.arange(0, num_pages + 1, per_sequence, dtype=torch.int32, device=self._device)
        pages = torch.randperm(num_pages, device=self._device).to(torch.int32)
        in_last = torch.full((case["batch"],), length - (per_sequence - 1) * BLOCK_SIZE, dtype=torch.int32)
        return cache, first, pages, in_last.to(self._device)

    def _workspace(self) -> Any:
        torch = self._torch
        return torch.empty(128 << 20, dtype=torch.uint8, device=self._device)

    def _paged_decode(self, case: Case) -> Kernel:
        torch = self._torch
        cache, first, pages, in_last = self._pages(case, case["context"])
        wrapper = self._flashinfer.BatchDecodeWithPagedKVCacheWrapper(self._workspace(), "NHD", use_tensor_cores=True)
        shape = case["q_heads"], case["kv_heads"], case["head_dim"]
        wrapper.plan(first, pages, in_last, *shape, BLOCK_SIZE, data_type=torch.bfloat16, q_data_type=torch.bfloat16)
        q = self._random(case["batch"], case["q_heads"], case["head_dim"])
        return lambda: wrapper.run(q, cache)

    def _paged_prefill(self, case: Case) -> Kernel:
        torch = self._torch
        cache, first, pages, in_last = self._pages(case, case["context"] + case["num_tokens"])
        wrapper = self._flashinfer.BatchPrefillWithPagedKVCacheWrapper(self._workspace(), "NHD")
        queries = torch.tensor([0, case["num_tokens"]], dtype=torch.int32, device=self._device)
        shape = case["q_heads"], case["kv_heads"], case["head_dim"]
        wrapper.plan(queries, first, pages, in_last, *shape, BLOCK_SIZE, causal=True, q_data_type=torch.bfloat16)
        q = self._random(case["num_tokens"], case["q_heads"], case["head_dim"])
        return lambda: wrapper.run(q, cache)
