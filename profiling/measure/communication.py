"""Collectives and messages between the GPUs of one machine."""

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
    """Cases of a machine: all-reduces of two, four, ... GPUs and messages between two.

    Args:
        machine: Name of the machine.
        num_gpus: GPUs of the machine; with one there is nothing to measure.
        operators: Among all_reduce and send.
    """
    groups = [count for count in (2, 4, 8, 16) if count <= num_gpus]
    found = []
    for size in SIZES:
        if "all_reduce" in operators:
            found += [Case("communication", (machine, "all_reduce", count, count, size)) for count in groups]
        if "send" in operators and num_gpus > 1:
            found.append(Case("communication", (machine, "send", 2, 2, size)))
    return found


def measure_group(cases: Sequence[Case], backend: str) -> list[Sample]:
    """Measure cases that have the same number of GPUs, in one process per GPU.

    Args:
        cases: All with the same num_gpus.
        backend: "nccl", or "gloo" for the CPU.

    Returns:
        A sample for each case, as the first GPU saw it.

    Raises:
        RuntimeError: A process failed.
    """
    from torch import multiprocessing

    num_gpus = cases[0]["num_gpus"]
    assert all(case["num_gpus"] == num_gpus for case in cases)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers = multiprocessing.get_context("spawn").SimpleQueue()
    plain = [(case["operator"], case["num_bytes"]) for case in cases]
    multiprocessing.spawn(_work, (num_gpus, port, backend, plain, answers), nprocs=num_gpus)
    return [Sample(*values) for values in answers.get()]


def _work(rank: int, num_gpus: int, port: int, backend: str, plain: Sequence[tuple[str, int]], answers: Any) -> None:
    """Take part in every case; the first process answers."""
    import torch
    from torch import distributed

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group(backend, rank=rank, world_size=num_gpus)
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if backend == "nccl":
        torch.cuda.set_device(device)
    found = []
    for operator, num_bytes in plain:
        message = torch.randn(num_bytes // BYTES_PER_VALUE, device=device).to(torch.bfloat16)
        found.append(_sample(_step(distributed, operator, message, rank), distributed, torch, backend == "nccl"))
    if rank == 0:
        answers.put([(one.seconds, one.seconds_min, one.seconds_std) for one in found])
    distributed.barrier()
    distributed.destroy_process_group()


def _step(distributed: Any, operator: str, message: Any, rank: int) -> Callable[[], object]:
    if operator == "all_reduce":
        return lambda: distributed.all_reduce(message)
    if rank == 0:
        return lambda: distributed.send(message, 1)
    return lambda: distributed.recv(message, 0)


def _sample(step: Callable[[], object], distributed: Any, torch: Any, on_gpu: bool) -> Sample:
    """Time a step that all processes take together, by events on a GPU and by the host's clock elsewhere."""
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
