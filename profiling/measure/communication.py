"""Collectives and point-to-point messages between the GPUs of one machine."""

import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from profiling.measure.cases import Case
from profiling.measure.session import Measured
from profiling.measure.symmetric_memory import MAX_BYTES, symmetric_all_reduce
from profiling.measure.timing import LAUNCHES, REPEATS, WARM_UPS, Sample

SIZES = tuple(1 << power for power in range(8, 29))
BYTES_PER_VALUE = 2
# Bytes that the collectives of a captured graph reduce together, at most.
GRAPH_BYTES = 1 << 24


def communication_cases(machine: str, num_gpus: int, operators: Sequence[str]) -> list[Case]:
    """Return the collectives and messages to measure on a machine.

    All-reduces are of 2, 4, ... GPUs, messages between two.

    Args:
        machine: Name of the machine.
        num_gpus: GPUs of the machine; a single GPU has no cases.
        operators: Those measured; the names in COLLECTIVES count here.
    """
    groups = [count for count in (2, 4, 8, 16) if count <= num_gpus]
    cases = []
    for size in SIZES:
        for operator in ("all_reduce", "custom_all_reduce"):
            if operator in operators and (operator == "all_reduce" or size < MAX_BYTES):
                cases += [Case("communication", (machine, operator, count, count, size)) for count in groups]
        if "send" in operators and num_gpus > 1:
            cases.append(Case("communication", (machine, "send", 2, 2, size)))
    return cases


def measure_group(cases: Sequence[Case], backend: str) -> list[Measured]:
    """Measure cases of equal `num_gpus`, with one process per GPU.

    Args:
        cases: All with the same num_gpus.
        backend: "nccl", or "gloo" on the CPU.

    Returns:
        The times of each case by the clock of rank 0; none where this machine lacks the kernel.

    Raises:
        RuntimeError: A process failed.
    """
    from torch import multiprocessing

    num_gpus = cases[0]["num_gpus"]
    assert all(case["num_gpus"] == num_gpus for case in cases)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = multiprocessing.get_context("spawn").SimpleQueue()
    sizes = [(case.operator, case["num_bytes"]) for case in cases]
    multiprocessing.spawn(_work, (num_gpus, port, backend, sizes, results), nprocs=num_gpus)
    return [Measured(None if values is None else Sample(*values), library) for values, library in results.get()]


def _work(rank: int, num_gpus: int, port: int, backend: str, sizes: Sequence[tuple[str, int]], results: Any) -> None:
    """Measure every case on one rank; rank 0 reports the samples."""
    import torch
    from torch import distributed

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    device = torch.device("cpu")
    if backend == "nccl":
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
    distributed.init_process_group(backend, rank=rank, world_size=num_gpus)
    bench = RankBench(torch, distributed, device, rank, num_gpus)
    measured = [bench.measure(operator, num_bytes) for operator, num_bytes in sizes]
    if rank == 0:
        results.put([(one.sample and astuple(one.sample), one.kernel_library) for one in measured])
    distributed.barrier()
    distributed.destroy_process_group()


@dataclass(frozen=True)
class _Step:
    """A collective of all ranks.

    Attributes:
        run: Starts it.
        reset: Restores the message, which a reduction makes larger.
        num_runs: Collectives that `run` starts.
    """

    run: Callable[[], object]
    reset: Callable[[], object]
    num_runs: int = 1


class RankBench:
    """Measures collectives and messages on one rank; all ranks call it alike.

    All-reduces run in CUDA graphs, as in an engine's decodes. Messages are launched one by one.
    """

    def __init__(self, torch: Any, distributed: Any, device: Any, rank: int, num_gpus: int) -> None:
        """Store the modules.

        Args:
            torch: The module.
            distributed: `torch.distributed`, with an initialised process group.
            device: The rank's `torch.device`; the CPU times by the host clock and captures nothing.
            rank: From 0.
            num_gpus: Ranks.
        """
        self._torch = torch
        self._distributed = distributed
        self._device = device
        self._rank = rank
        self._num_gpus = num_gpus
        self._on_gpu = device.type == "cuda"
        self._backend = f"torch {torch.__version__}, gloo"
        if self._on_gpu:
            self._backend = f"torch {torch.__version__}, nccl {'.'.join(map(str, torch.cuda.nccl.version()))}"
        self._lacks_symmetric_memory = not self._on_gpu

    def measure(self, operator: str, num_bytes: int) -> Measured:
        """Measure a collective or message of a size.

        Args:
            operator: One of COLLECTIVES.
            num_bytes: Bytes of the message on each rank.
        """
        if operator == "custom_all_reduce":
            return self._custom_all_reduce(num_bytes)
        message = self._message(num_bytes)
        if operator == "all_reduce":
            return self._all_reduce(message, lambda: self._distributed.all_reduce(message), self._backend)
        step = _Step(lambda: self._distributed.recv(message, 0), lambda: None)
        if self._rank == 0:
            step = _Step(lambda: self._distributed.send(message, 1), lambda: None)
        return Measured(self._time(step), self._backend)

    def _custom_all_reduce(self, num_bytes: int) -> Measured:
        """Measure the all-reduce of torch's symmetric memory; no sample without it."""
        library = f"torch {self._torch.__version__}, symmetric memory"
        if self._lacks_symmetric_memory:
            return Measured(None, library)
        try:
            message, run, kind = symmetric_all_reduce(self._torch, self._message(num_bytes), self._num_gpus)
        except (AttributeError, ImportError, RuntimeError) as error:
            self._lacks_symmetric_memory = True
            if self._rank == 0:
                reason = " ".join(str(error).split())
                print(f"custom_all_reduce: no symmetric memory, not measured: {reason}", file=sys.stderr)
            return Measured(None, library)
        return self._all_reduce(message, run, f"{library}, {kind}")

    def _all_reduce(self, message: Any, run: Callable[[], object], library: str) -> Measured:
        original = message.clone()
        step = _Step(run, lambda: message.copy_(original))
        if not self._on_gpu:
            return Measured(self._time(step), library)
        num_bytes = message.numel() * BYTES_PER_VALUE
        return Measured(self._time(self._captured(step, num_bytes)), f"{library}, CUDA graph")

    def _message(self, num_bytes: int) -> Any:
        return self._torch.randn(num_bytes // BYTES_PER_VALUE, device=self._device).to(self._torch.bfloat16)

    def _captured(self, step: _Step, num_bytes: int) -> _Step:
        """Capture a collective several times in one graph, on all ranks alike."""
        cuda = self._torch.cuda
        for _ in range(WARM_UPS):
            step.run()
        cuda.synchronize()
        num_runs = max(1, min(LAUNCHES, GRAPH_BYTES // num_bytes))
        graph = cuda.CUDAGraph()
        # NCCL's own thread calls CUDA meanwhile, which a capture of all threads would forbid.
        with cuda.graph(graph, capture_error_mode="thread_local"):
            for _ in range(num_runs):
                step.run()
        return _Step(graph.replay, step.reset, num_runs)

    def _time(self, step: _Step) -> Sample:
        """Time a step: CUDA events on a GPU, else the host clock."""
        seconds = []
        for number in range(WARM_UPS + REPEATS):
            step.reset()
            self._distributed.barrier()
            elapsed = self._by_events(step.run) if self._on_gpu else _by_host_clock(step.run)
            if number >= WARM_UPS:
                seconds.append(elapsed / step.num_runs)
        return Sample.of(seconds)

    def _by_events(self, run: Callable[[], object]) -> float:
        """Return the seconds from `run`'s start to its last kernel's end."""
        cuda = self._torch.cuda
        cuda.synchronize()
        begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) * 1e-3


def _by_host_clock(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
