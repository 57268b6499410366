"""How long a kernel takes: warm-up, rotated buffers, and the median of repeated runs."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

# A kernel that does its work on the buffers it was built with.
Kernel = Callable[[], object]
# Makes a kernel on buffers of its own.
Build = Callable[[], Kernel]

WARM_UPS = 3
REPEATS = 25
# Launches between two events: the events' own cost and the launch of the graph are spread over them. A long kernel
# needs fewer of them.
LAUNCHES = 16
REPLAY_S = 1e-3
MOST_COPIES = 64


@dataclass(frozen=True)
class Sample:
    """Times of one kernel.

    Attributes:
        seconds: Median.
        seconds_min: Minimum.
        seconds_std: Standard deviation.
    """

    seconds: float
    seconds_min: float
    seconds_std: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Sample":
        """Sum up repeated measurements, at least 20."""
        assert len(seconds) >= 20
        return cls(statistics.median(seconds), min(seconds), statistics.pstdev(seconds))


class Timer(Protocol):
    """Times kernels on a device."""

    def measure(self, build: Build, cold_bytes: int) -> Sample:
        """Time a kernel.

        Args:
            build: Makes the kernel, each time on another copy of its cold buffers.
            cold_bytes: Bytes of one copy; 0: there are none.
        """
        ...


def copies_beyond(cache_bytes: int, cold_bytes: int) -> int:
    """Copies of cold buffers that do not fit a cache twice, so that a kernel never finds its own data there."""
    return max(1, min(MOST_COPIES, -(-2 * cache_bytes // cold_bytes))) if cold_bytes else 1


class CudaTimer:
    """Times kernels in a CUDA graph, between CUDA events: launch gaps are not in the times."""

    def __init__(self, torch: Any, repeats: int = REPEATS) -> None:
        """Take the torch module, which only this part of the harness needs.

        Args:
            torch: The module.
            repeats: Measurements of each kernel.
        """
        self._torch = torch
        self._repeats = repeats
        self._stream = torch.cuda.Stream()
        self._cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size

    def measure(self, build: Build, cold_bytes: int) -> Sample:
        """Time a kernel; see `Timer`."""
        cuda = self._torch.cuda
        kernels = [build() for _ in range(copies_beyond(self._cache_bytes, cold_bytes))]
        stream = self._stream
        stream.wait_stream(cuda.current_stream())
        begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        with cuda.stream(stream):
            for _ in range(WARM_UPS):
                begin.record()
                for kernel in kernels:
                    kernel()
                end.record()
        cuda.current_stream().wait_stream(stream)
        end.synchronize()
        at_most_s = begin.elapsed_time(end) * 1e-3 / len(kernels)
        launches = max(1, min(LAUNCHES, math.ceil(REPLAY_S / at_most_s)), len(kernels))
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            for number in range(launches):
                kernels[number % len(kernels)]()
        seconds = []
        for number in range(WARM_UPS + self._repeats):
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            if number >= WARM_UPS:
                seconds.append(begin.elapsed_time(end) * 1e-3 / launches)
        return Sample.of(seconds)


class WallTimer:
    """Times kernels that are done when they return, by the clock of the host."""

    def __init__(self, cache_bytes: int = 0, repeats: int = REPEATS) -> None:
        """Set the size of the cache to stay out of.

        Args:
            cache_bytes: Bytes to stay out of; 0: one copy of the buffers is enough.
            repeats: Measurements of each kernel.
        """
        self._cache_bytes = cache_bytes
        self._repeats = repeats

    def measure(self, build: Build, cold_bytes: int) -> Sample:
        """Time a kernel; see `Timer`."""
        kernels = [build() for _ in range(copies_beyond(self._cache_bytes, cold_bytes))]
        seconds = []
        for number in range(WARM_UPS + self._repeats):
            kernel = kernels[number % len(kernels)]
            begin = time.perf_counter()
            kernel()
            elapsed = time.perf_counter() - begin
            if number >= WARM_UPS:
                seconds.append(max(elapsed, 1e-9))
        return Sample.of(seconds)
