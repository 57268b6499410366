"""A stand-in for FlashInfer: it binds every call to the real signatures and checks the tensors as the kernels do.

With a `FakeCuda`, the kernels compute, so that results can be compared with torch's. Without, tensors have no values,
and the kernels return the right shapes.
"""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch

from tests.fake_cuda import CudaError, FakeCuda
from tests.flashinfer_signatures import signature_of

HEAD_DIMS = (64, 128, 256, 512)  # of the rotation kernel, include/flashinfer/utils.cuh
INT32 = (torch.int32,)
HALF = (torch.float16, torch.bfloat16)


class FakeFlashInfer:
    """Stands for the module.

    Attributes:
        calls: Names of the functions that were called.
    """

    def __init__(self, version: str, signatures: Mapping[str, str], cuda: FakeCuda | None = None) -> None:
        self.__version__ = version
        self.calls: list[str] = []
        self.cuda = cuda
        self._signatures = {name: signature_of(parameters) for name, parameters in signatures.items()}
        self.norm = SimpleNamespace(
            rmsnorm=self._bound("norm.rmsnorm", self._rmsnorm),
            fused_add_rmsnorm=self._bound("norm.fused_add_rmsnorm", self._fused_add_rmsnorm),
        )
        name = "apply_rope_with_cos_sin_cache_inplace"
        self.rope = SimpleNamespace(**{name: self._bound(f"rope.{name}", self._rotate)})
        self.activation = SimpleNamespace(silu_and_mul=self._bound("activation.silu_and_mul", self._silu_and_mul))
        name = "top_k_top_p_sampling_from_probs"
        self.sampling = SimpleNamespace(**{name: self._bound(f"sampling.{name}", self._sample)})

    def BatchPrefillWithPagedKVCacheWrapper(self, *args: Any, **kwargs: Any) -> "_Wrapper":  # noqa: N802  # its name
        return _Wrapper(self, "BatchPrefillWithPagedKVCacheWrapper", "buf", args, kwargs)

    def BatchDecodeWithPagedKVCacheWrapper(self, *args: Any, **kwargs: Any) -> "_Wrapper":  # noqa: N802  # its name
        return _Wrapper(self, "BatchDecodeWithPagedKVCacheWrapper", "buffer", args, kwargs)

    def bind(self, name: str, args: Any, kwargs: Any) -> dict[str, Any]:
        """Bind a call to its signature; return every parameter."""
        bound = self._signatures[name].bind(*args, **kwargs)
        bound.apply_defaults()
        self.calls.append(name)
        return bound.arguments

    def launch(self, kernel: Callable[[], object]) -> None:
        """Run a kernel where tensors have values."""
        if self.cuda is not None:
            self.cuda.launch(kernel)

    def on_device(self, name: str, value: Any, dtypes: tuple[torch.dtype, ...], *shape: int) -> None:
        """Check a tensor of the device."""
        check(name, value, dtypes, *shape)
        if self.cuda is None and value.device.type != "cuda":
            raise ValueError(f"{name} must be on the GPU, it is on {value.device}")

    def _bound(self, name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: run(SimpleNamespace(**self.bind(name, args, kwargs)))

    def _rmsnorm(self, call: SimpleNamespace) -> Any:
        self.on_device("input", call.input, HALF)
        self.on_device("weight", call.weight, (call.input.dtype,), call.input.shape[-1])
        out = torch.empty_like(call.input)
        self.launch(lambda: out.copy_(_normalized(call.input, call.weight, call.eps)))
        return out

    def _fused_add_rmsnorm(self, call: SimpleNamespace) -> None:
        self.on_device("input", call.input, HALF)
        self.on_device("residual", call.residual, (call.input.dtype,), *call.input.shape)
        self.on_device("weight", call.weight, (call.input.dtype,), call.input.shape[-1])

        def kernel() -> None:
            call.residual.add_(call.input)
            call.input.copy_(_normalized(call.residual, call.weight, call.eps))

        self.launch(kernel)

    def _rotate(self, call: SimpleNamespace) -> None:
        tokens = call.positions.shape[0]
        self.on_device("positions", call.positions, (torch.int32, torch.int64), tokens)
        self.on_device("cos_sin_cache", call.cos_sin_cache, (torch.float32,))
        if call.head_size not in HEAD_DIMS:
            raise ValueError(f"Unsupported head_dim: {call.head_size}")
        heads = [part.view(tokens, -1, call.head_size) for part in (call.query, call.key)]
        for name, part in zip(("query", "key"), heads, strict=True):
            self.on_device(name, part, HALF)
            if part.untyped_storage()._cdata != getattr(call, name).untyped_storage()._cdata:
                raise ValueError(f"{name} must be a view: it is rotated in place")

        def kernel() -> None:
            cosine, sine = call.cos_sin_cache[call.positions.long()][:, None].chunk(2, dim=-1)
            for part in heads:
                first, second = part.float().chunk(2, dim=-1)
                rotated = (first * cosine - second * sine, second * cosine + first * sine)
                part.copy_(torch.cat(rotated, dim=-1))

        self.launch(kernel)

    def _silu_and_mul(self, call: SimpleNamespace) -> Any:
        self.on_device("input", call.input, HALF)
        if call.input.shape[-1] * call.input.dtype.itemsize % 16:
            raise ValueError("The pointers must be multiple of 16 bytes.")
        width = call.input.shape[-1] // 2
        out = torch.empty(*call.input.shape[:-1], width, dtype=call.input.dtype, device=call.input.device)

        def kernel() -> None:
            out.copy_(torch.nn.functional.silu(call.input[..., :width]) * call.input[..., width:])

        self.launch(kernel)
        return out

    def _sample(self, call: SimpleNamespace) -> Any:
        sequences = call.probs.shape[0]
        self.on_device("probs", call.probs, (torch.float32,))
        self.on_device("top_k", call.top_k, INT32, sequences)
        self.on_device("top_p", call.top_p, (torch.float32,), sequences)
        if (call.seed is None or call.offset is None) and self.cuda is not None:
            self.cuda.refuse_in_capture("read the state of the generator")
        out = torch.empty(sequences, dtype=torch.int32, device=call.probs.device)
        self.launch(lambda: out.copy_(call.probs.argmax(dim=-1)))
        return out


class _Wrapper:
    """Paged attention of one phase: planned on the host, then run once per layer."""

    def __init__(self, module: FakeFlashInfer, name: str, suffix: str, args: Any, kwargs: Any) -> None:
        call = SimpleNamespace(**module.bind(f"{name}.__init__", (self, *args), kwargs))
        self._module = module
        self._name = name
        self._is_prefill = "Prefill" in name
        self._plan: SimpleNamespace | None = None
        module.on_device("float_workspace_buffer", call.float_workspace_buffer, (torch.uint8,))
        if call.kv_layout != "NHD":
            raise ValueError(f"kv_layout must be NHD here, got {call.kv_layout}")
        parts = ("indptr", "indices", "last_page_len")
        self._buffers = [getattr(call, f"paged_kv_{part}_{suffix}") for part in parts]
        self._in_graph = call.use_cuda_graph
        if self._in_graph:
            for part, buffer in zip(parts, self._buffers, strict=True):
                module.on_device(part, buffer, INT32)
            if len(self._buffers[0]) != len(self._buffers[2]) + 1:
                raise ValueError("The size of paged_kv_indptr_buffer should be batch_size + 1")

    def plan(self, *args: Any, **kwargs: Any) -> None:
        call = SimpleNamespace(**self._module.bind(f"{self._name}.plan", (self, *args), kwargs))
        if self._module.cuda is not None:
            self._module.cuda.refuse_in_capture("plan attention")
        prefix, self._head_dim = ("paged_kv_", call.head_dim_qk) if self._is_prefill else ("", call.head_dim)
        pages = [getattr(call, f"{prefix}{part}") for part in ("indptr", "indices", "last_page_len")]
        for part in pages:
            check("indptr, indices and last_page_len", part, INT32)
        batch = len(pages[2])
        check("indptr", pages[0], INT32, batch + 1)
        if self._is_prefill:
            check("qo_indptr", call.qo_indptr, INT32, batch + 1)
        self._store(pages)
        self._plan = call

    def _store(self, pages: list[Any]) -> None:
        """Keep the pages; a graph reads them from its own buffers."""
        if not self._in_graph:
            self._buffers = pages
            return
        if len(pages[2]) != len(self._buffers[2]):
            raise ValueError("The batch size should be fixed in cudagraph mode")
        if len(pages[1]) > len(self._buffers[1]):
            raise ValueError("The size of indices should be less than or equal to the allocated buffer")
        for buffer, part in zip(self._buffers, pages, strict=True):
            buffer[: len(part)].copy_(part)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        call = SimpleNamespace(**self._module.bind(f"{self._name}.run", (self, *args), kwargs))
        plan = self._plan
        if plan is None:
            raise CudaError("attention is run before it is planned")
        on_device, q_heads = self._module.on_device, plan.num_qo_heads
        on_device("q", call.q, (plan.q_data_type,), call.q.shape[0], q_heads, self._head_dim)
        for part in call.paged_kv_cache:
            sizes = plan.page_size, plan.num_kv_heads, self._head_dim
            on_device("paged_kv_cache", part, (plan.kv_data_type or plan.q_data_type,), part.shape[0], *sizes)
        if not self._is_prefill and call.q.shape[0] != len(self._buffers[2]):
            raise ValueError(f"{call.q.shape[0]} queries for {len(self._buffers[2])} sequences")
        out = torch.empty_like(call.q) if call.out is None else call.out
        on_device("out", out, (call.q.dtype,), *call.q.shape)
        self._module.launch(lambda: self._attend(call.q, call.paged_kv_cache, out, plan))
        return out

    def _attend(self, q: Any, cache: Any, out: Any, plan: SimpleNamespace) -> None:
        first, blocks, in_last = (buffer.tolist() for buffer in self._buffers)
        starts = plan.qo_indptr.tolist() if self._is_prefill else list(range(len(in_last) + 1))
        if starts[-1] != q.shape[0]:
            raise ValueError(f"{q.shape[0]} queries, {starts[-1]} are planned")
        if not all(0 < last <= plan.page_size for last in in_last):
            raise ValueError(f"the tokens in last pages must be in 1..{plan.page_size}, got {in_last}")
        for index, last in enumerate(in_last):
            pages = torch.tensor(blocks[first[index] : first[index + 1]])
            total = (len(pages) - 1) * plan.page_size + last
            keys, values = (part[pages].flatten(0, 1)[:total].transpose(0, 1)[None] for part in cache)
            queries = q[starts[index] : starts[index + 1]].transpose(0, 1)[None]
            mask = torch.ones(queries.shape[2], total, dtype=torch.bool).tril(total - queries.shape[2])
            if self._is_prefill and not plan.causal:
                mask = torch.ones_like(mask)
            attended = torch.nn.functional.scaled_dot_product_attention(
                queries, keys, values, attn_mask=mask, enable_gqa=True
            )
            out[starts[index] : starts[index + 1]] = attended[0].transpose(0, 1)


def check(name: str, value: Any, dtypes: tuple[torch.dtype, ...], *shape: int) -> None:
    """Check the format and shape of a tensor, and that its rows are contiguous."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, got {value!r}")
    if value.dtype not in dtypes:
        raise ValueError(f"{name} must have one of {dtypes}, has {value.dtype}")
    if shape and tuple(value.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, has {tuple(value.shape)}")
    if value.stride(-1) != 1 and value.shape[-1] > 1:
        raise ValueError(f"{name} must be contiguous in its last dimension")


def _normalized(x: Any, weight: Any, eps: float) -> Any:
    return torch.nn.functional.rms_norm(x, weight.shape, weight, eps)
