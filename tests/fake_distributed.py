"""Stand-ins for NCCL and for torch's symmetric memory, on the stand-in for CUDA."""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from tests.fake_cuda import CudaError, FakeCuda


class FakeDistributed:
    """Stands for `torch.distributed` on one of several ranks, with calls bound to the real signatures.

    Like NCCL's own thread, it makes the capture of a graph fail that forbids CUDA calls of other threads.
    """

    def __init__(self, cuda: FakeCuda, num_gpus: int) -> None:
        self._cuda = cuda
        self._num_gpus = num_gpus
        self.group = SimpleNamespace(WORLD=SimpleNamespace(group_name="0"))
        self.num_barriers = 0

    def all_reduce(self, *args: Any, **kwargs: Any) -> None:
        self._launch("all_reduce", args, kwargs, lambda message: message.mul_(self._num_gpus))

    def send(self, *args: Any, **kwargs: Any) -> None:
        self._launch("send", args, kwargs, lambda message: message.clone())

    def recv(self, *args: Any, **kwargs: Any) -> None:
        self._launch("recv", args, kwargs, lambda message: message.fill_(1))

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        inspect.signature(torch.distributed.barrier).bind(*args, **kwargs)
        self._cuda.refuse_in_capture("wait for all ranks")
        self.num_barriers += 1

    def _launch(self, name: str, args: Any, kwargs: Any, kernel: Callable[[Any], object]) -> None:
        call = inspect.signature(getattr(torch.distributed, name)).bind(*args, **kwargs).arguments
        self.launch(call["tensor"], kernel)

    def launch(self, message: Any, kernel: Callable[[Any], object]) -> None:
        """Launch a kernel on a message, whose values must stay finite."""
        if self._cuda.is_capturing and self._cuda.capture_error_mode == "global":
            raise CudaError("operation not permitted when stream is capturing: NCCL's thread queries an event")

        def run() -> None:
            kernel(message)
            if not message.isfinite().all():
                raise CudaError("the message has overflowed")

        self._cuda.launch(run)


class FakeSymmetricMemory:
    """Stands for `torch.distributed._symmetric_memory` and its operations."""

    def __init__(self, distributed: FakeDistributed, num_gpus: int) -> None:
        self._distributed = distributed
        self._shared: list[Any] = []
        self.kernels: list[str] = []
        names = ("one_shot_all_reduce", "two_shot_all_reduce_")
        self.ops = SimpleNamespace(
            symm_mem=SimpleNamespace(**{name: self._operation(name, num_gpus) for name in names})
        )

    def empty(self, *size: Any, dtype: Any = None, device: Any = None) -> Any:
        return torch.empty(*size, dtype=dtype, device=device)

    def rendezvous(self, tensor: Any, group: Any) -> None:
        assert group is self._distributed.group.WORLD
        self._shared.append(tensor)

    def _operation(self, name: str, num_gpus: int) -> Callable[..., None]:
        schema = getattr(torch.ops.symm_mem, name).default._schema

        def run(message: Any, reduce_op: str, group_name: str) -> None:
            assert [argument.name for argument in schema.arguments] == ["input", "reduce_op", "group_name"]
            assert (reduce_op, group_name) == ("sum", "0")
            if not any(message is shared for shared in self._shared):
                raise CudaError("the message is not in symmetric memory")
            self.kernels.append(name)
            factor = num_gpus if name.endswith("_") else 1  # a reduction into another tensor leaves its input
            self._distributed.launch(message, lambda shared: shared.mul_(factor))

        return run
