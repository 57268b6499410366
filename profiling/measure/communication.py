"""All-reduces and point-to-point messages between the GPUs of one machine."""

import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from profiling.measure.cases import Case
from profiling.measure.timing import REPEATS, WARM_UPS, Sample

SIZES = tuple(1 << power for power in range(8, 29))
BYTES_PER_VALUE = 2


def communication_cases(machine: str, num_gpus: int, operators: Sequence[str]) -> list[Case]:
    """Return the collectives and messages to measure on a machine.

    All-reduces are of 2, 4, ... GPUs, messages between two.

    Args:
        machine: Name of the machine.
        num_gpus: GPUs of the machine; a single GPU has no cases.
        operators: Those measured; all_reduce and send count here.
    """
    groups = [count for count in (2, 4, 8, 16) if count <= num_gpus]
    cases = []
    for size in SIZES:
        if "all_reduce" in operators:
            cases += [Case("communication", (machine, "all_reduce", count, count, size)) for count in groups]
        if "send" in operators and num_gpus > 1:
            cases.append(Case("communication", (machine, "send", 2, 2, size)))
    return cases


def measure_group(cases: Sequence[Case], backend: str) -> list[Sample]:
    """Measure cases of equal `num_gpus`, with one process per GPU.

    Args:
        cases: All with the same num_gpus.
        backend: "nccl", or "gloo" on the CPU.

    Returns:
        The sample of each case, as timed on rank 0.

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
    sizes = [(case["operator"], case["num_bytes"]) for case in cases]
    multiprocessing.spawn(_work, (num_gpus, port, backend, sizes, results), nprocs=num_gpus)
    return [Sample(*values) for values in results.get()]


def _work(rank: int, num_gpus: int, port: int, backend: str, sizes: Sequence[tuple[str, int]], results: Any) -> None:
    """Run every case on one rank; rank 0 reports the samples."""
    import torch
    from torch import distributed

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group(backend, rank=rank, world_size=num_gpus)
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if backend == "nccl":
        torch.cuda.set_device(device)
    samples = []
    for operator, num_bytes in sizes:
        message = torch.randn(num_bytes // BYTES_PER_VALUE, device=device).to(torch.bfloat16)
        samples.append(_time(_step(distributed, operator, message, rank), distributed, torch, backend == "nccl"))
    if rank == 0:
        results.put([(sample.seconds, sample.seconds_min, sample.seconds_std) for sample in samples])
    distributed.barrier()
    distributed.destroy_process_group()


def _step(distributed: Any, operator: str, message: Any, rank: int) -> Callable[[], object]:
    if operator == "all_reduce":
        return lambda: distributed.all_reduce(message)
    if rank == 0:
        return lambda: distributed.send(message, 1)
    return lambda: distributed.recv(message, 0)


def _time(step: Callable[[], object], distributed: Any, torch: Any, on_gpu: bool) -> Sample:
    """Time a step that all ranks run together.

    By CUDA events on a GPU, else by the host clock.
    """
    seconds = []
    for number in range(WARM_UPS + REPEATS):
        distributed.barrier()
        if on_gpu:
            torch.cuda.synchronize()
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            step()
            end.record()
            end.synchronize()
            elapsed = begin.elapsed_time(end) * 1e-3
        else:
            start = time.perf_counter()
            step()
            elapsed = time.perf_counter() - start
        if number >= WARM_UPS:
            seconds.append(elapsed)
    return Sample.of(seconds)
