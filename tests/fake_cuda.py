"""A stand-in for CUDA where there is no GPU: its clock counts kernels, and it refuses wrong use.

Tensors of the device live in host memory and kernels compute, so that results can be compared. Like the real runtime,
it refuses an event that is read before it has passed, a graph that is replayed before it is captured, and whatever
cannot be captured: synchronisation, copies from the host, values that the host reads.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

LAUNCH_S = 2e-6  # host time of a launch
KERNEL_S = 5e-6  # device time of a kernel
NOT_CAPTURABLE = (
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.item.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
)


class CudaError(RuntimeError):
    """A call that CUDA refuses."""


class FakeStream:
    """Work in order; `ready_s` is when the last of it ends."""

    def __init__(self, cuda: "FakeCuda") -> None:
        self._cuda = cuda
        self.ready_s = 0.0

    def wait_stream(self, stream: "FakeStream") -> None:
        if not isinstance(stream, FakeStream):
            raise TypeError(f"wait_stream takes a stream, got {stream!r}")
        self.ready_s = max(self.ready_s, stream.ready_s)

    def synchronize(self) -> None:
        self._cuda.refuse_in_capture("synchronize a stream")
        self._cuda.now_s = max(self._cuda.now_s, self.ready_s)


class FakeEvent:
    """A point in a stream."""

    def __init__(self, cuda: "FakeCuda", enable_timing: bool) -> None:
        self._cuda = cuda
        self._has_time = enable_timing
        self.passed_s: float | None = None

    def record(self, stream: FakeStream | None = None) -> None:
        if self._has_time:
            self._cuda.refuse_in_capture("record an event with a time")
        chosen = self._cuda.current_stream() if stream is None else stream
        self.passed_s = max(chosen.ready_s, self._cuda.now_s)

    def synchronize(self) -> None:
        self._cuda.refuse_in_capture("synchronize an event")
        self._cuda.now_s = max(self._cuda.now_s, self._time())

    def elapsed_time(self, end_event: "FakeEvent") -> float:
        if not (self._has_time and end_event._has_time):
            raise CudaError("both events need enable_timing=True")
        if max(self._time(), end_event._time()) > self._cuda.now_s:
            raise CudaError("elapsed_time of an event that has not passed: synchronize first")
        return (end_event._time() - self._time()) * 1e3

    def _time(self) -> float:
        if self.passed_s is None:
            raise CudaError("the event was not recorded")
        return self.passed_s


class FakeGraph:
    """Kernels that are captured once and replayed together."""

    def __init__(self, cuda: "FakeCuda") -> None:
        self._cuda = cuda
        self.kernels: list[Callable[[], object]] = []
        self.is_captured = False
        self.num_replays = 0

    def replay(self) -> None:
        if not self.is_captured:
            raise CudaError("the graph was replayed before it was captured")
        self._cuda.replay(self.kernels)
        self.num_replays += 1

    def pool(self) -> tuple[int, int]:
        if not self.is_captured:
            raise CudaError("the graph has no pool before it is captured")
        return 0, id(self)


class FakeCuda:
    """Stands for `torch.cuda`.

    Attributes:
        now_s: Clock of the host.
        graphs: Every graph that was made.
    """

    def __init__(self, num_gpus: int = 1, capability: tuple[int, int] = (9, 0)) -> None:
        self.now_s = 0.0
        self.graphs: list[FakeGraph] = []
        self.capture_error_mode = ""
        self.nccl = SimpleNamespace(version=lambda: (2, 27, 3))
        self._num_gpus = num_gpus
        self._capability = capability
        self._stream = FakeStream(self)
        self._capturing: FakeGraph | None = None
        self._in_kernel = False

    # --- the interface of torch.cuda ---------------------------------------------------------------------

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return self._num_gpus

    def set_device(self, device: Any) -> None:
        assert torch.device(device).type == "cuda"

    def get_device_name(self, device: Any = None) -> str:
        return "NVIDIA H100 80GB HBM3"

    def get_device_capability(self, device: Any = None) -> tuple[int, int]:
        return self._capability

    def get_device_properties(self, device: Any = None) -> SimpleNamespace:
        return SimpleNamespace(
            name=self.get_device_name(), L2_cache_size=1 << 15, multi_processor_count=132, total_memory=80 << 30
        )

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        return 70 << 30, 80 << 30

    def empty_cache(self) -> None:
        self.refuse_in_capture("empty the cache")

    def synchronize(self, device: Any = None) -> None:
        self._stream.synchronize()

    def Stream(self, device: Any = None, priority: int = 0) -> FakeStream:  # noqa: N802  # torch's name
        return FakeStream(self)

    def Event(self, enable_timing: bool = False, blocking: bool = False) -> FakeEvent:  # noqa: N802  # torch's name
        return FakeEvent(self, enable_timing)

    def CUDAGraph(self, keep_graph: bool = False) -> FakeGraph:  # noqa: N802  # torch's name
        self.graphs.append(FakeGraph(self))
        return self.graphs[-1]

    def current_stream(self, device: Any = None) -> FakeStream:
        return self._stream

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        previous, self._stream = self._stream, stream
        try:
            yield
        finally:
            self._stream = previous

    @contextmanager
    def graph(
        self, cuda_graph: FakeGraph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global"
    ) -> Iterator[None]:
        if not isinstance(cuda_graph, FakeGraph):
            raise TypeError(f"a graph is captured, got {cuda_graph!r}")
        if cuda_graph.is_captured:
            raise CudaError("the graph is captured already")
        self.synchronize()
        self._capturing, self.capture_error_mode = cuda_graph, capture_error_mode
        try:
            with self.stream(FakeStream(self)):
                yield
        finally:
            self._capturing = None
        cuda_graph.is_captured = True

    # --- kernels -----------------------------------------------------------------------------------------

    @property
    def is_capturing(self) -> bool:
        return self._capturing is not None

    def refuse_in_capture(self, what: str) -> None:
        if self.is_capturing and not self._in_kernel:
            raise CudaError(f"operation not permitted when stream is capturing: {what}")

    def launch(self, kernel: Callable[[], object]) -> None:
        """Run a kernel now and, if a graph is captured, at each of its replays."""
        self._run(kernel)
        if self._capturing is not None:
            self._capturing.kernels.append(kernel)
        else:
            self.now_s += LAUNCH_S
            self._spend(1)

    def replay(self, kernels: list[Callable[[], object]]) -> None:
        self.refuse_in_capture("replay a graph")
        for kernel in kernels:
            self._run(kernel)
        self.now_s += LAUNCH_S
        self._spend(len(kernels))

    def _spend(self, num_kernels: int) -> None:
        self._stream.ready_s = max(self._stream.ready_s, self.now_s) + num_kernels * KERNEL_S

    def _run(self, kernel: Callable[[], object]) -> None:
        previous, self._in_kernel = self._in_kernel, True
        try:
            kernel()
        finally:
            self._in_kernel = previous

    @contextmanager
    def on_this_machine(self) -> Iterator[None]:
        """Keep tensors of the device in host memory, and count and capture what computes with them."""
        with _HostMemory(self), _Kernels(self), torch.inference_mode():
            yield

    def dispatch(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Compute an operation of torch as a kernel."""
        if self._in_kernel:
            return func(*args, **kwargs)
        if func in NOT_CAPTURABLE:
            self.refuse_in_capture(str(func))
        first = func(*args, **kwargs)
        inputs = _storages((args, kwargs))
        in_place = any(value.alias_info is not None and value.alias_info.is_write for value in func._schema.returns)
        if not in_place and _storages(first) and _storages(first) <= inputs:
            return first  # a view
        is_first = True

        def kernel() -> None:
            nonlocal is_first
            if is_first:
                is_first = False
                return
            for before, now in zip(tree_leaves(first), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(before, torch.Tensor) and not in_place:
                    before.copy_(now)

        self.launch(kernel)
        return first


class _HostMemory(TorchFunctionMode):
    """Puts the tensors of the device into host memory."""

    def __init__(self, cuda: FakeCuda) -> None:
        super().__init__()
        self._cuda = cuda

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        if func is torch.Tensor.cpu:
            self._cuda.refuse_in_capture("copy to the host")
            self._cuda.synchronize()
        if func is torch.Tensor.to and any(map(_is_cuda, (*args, *(kwargs or {}).values()))):
            self._cuda.refuse_in_capture("copy from the host")
        moved = {name: "cpu" if _is_cuda(value) else value for name, value in (kwargs or {}).items()}
        return func(*("cpu" if _is_cuda(value) else value for value in args), **moved)


class _Kernels(TorchDispatchMode):
    """Launches the operations of torch."""

    def __init__(self, cuda: FakeCuda) -> None:
        super().__init__()
        self._cuda = cuda

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._cuda.dispatch(func, args, kwargs or {})


def _storages(values: Any) -> set[int]:
    return {leaf.untyped_storage()._cdata for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)}


def _is_cuda(value: Any) -> bool:
    return isinstance(value, str | torch.device) and str(value).partition(":")[0] == "cuda"


class FakeTorch:
    """torch with another `cuda`, and other parts that are given."""

    def __init__(self, cuda: FakeCuda, **parts: Any) -> None:
        self.cuda = cuda
        vars(self).update(parts)

    def Generator(self, device: str = "cpu") -> torch.Generator:  # noqa: N802  # torch's name
        return torch.Generator()

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


class WithoutValues(TorchFunctionMode):
    """Indexes and copies tensors of the device that have no values, which torch without CUDA refuses."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__getitem__ and args[0].device.type == "cuda":
            return _item(args[0], args[1])
        if func is torch.Tensor.__setitem__ and args[0].device.type == "cuda":
            part = _item(args[0], args[1])
            aten = torch.ops.aten
            return aten.copy_(part, args[2]) if isinstance(args[2], torch.Tensor) else aten.fill_(part, args[2])
        if func is torch.Tensor.to:
            args = [torch.device("cuda", 0) if _is_cuda(value) else value for value in args]
        return func(*args, **(kwargs or {}))


def _item(tensor: Any, index: Any) -> Any:
    """Return `tensor[index]`."""
    aten, dim, indices = torch.ops.aten, 0, []
    parts = index if isinstance(index, tuple) else (index,)
    for number, part in enumerate(parts):
        if part is Ellipsis:
            dim = tensor.ndim - sum(later is not None for later in parts[number + 1 :])
        elif part is None:
            tensor, dim = aten.unsqueeze(tensor, dim), dim + 1
        elif isinstance(part, int):
            tensor = aten.select(tensor, dim, part)
        elif isinstance(part, slice):
            tensor, dim = aten.slice(tensor, dim, part.start, part.stop, part.step or 1), dim + 1
        elif part.device.type != "cuda":
            raise CudaError("an index on the host cannot be captured")
        else:
            indices += [None] * (dim - len(indices)) + [part]
            dim += 1
    return aten.index(tensor, indices) if indices else tensor
