"""How long a kernel takes: warm-up, rotated buffers, and the median of repeated runs."""

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
# Launches between two events: the events' own cost and the launch of the graph are spread over them.
LAUNCHES = 16
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

    def measure(self, build: Build, num_bytes: int) -> Sample:
        """Time a kernel.

        Args:
            build: Makes the kernel, each time on another copy of its buffers.
            num_bytes: Bytes of one copy.
        """
        ...


def copies_beyond(cache_bytes: int, num_bytes: int) -> int:
    """Copies of buffers that do not fit a cache twice, so that a kernel never finds its own data there."""
    return max(1, min(MOST_COPIES, -(-2 * cache_bytes // max(1, num_bytes))))


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
        self._cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size

    def measure(self, build: Build, num_bytes: int) -> Sample:
        """Time a kernel; see `Timer`."""
        cuda = self._torch.cuda
        kernels = [build() for _ in range(copies_beyond(self._cache_bytes, num_bytes))]
        stream = cuda.Stream()
        stream.wait_stream(cuda.current_stream())
        with cuda.stream(stream):
            for _ in range(WARM_UPS):
                for kernel in kernels:
                    kernel()
        cuda.current_stream().wait_stream(stream)
        launches = max(LAUNCHES, len(kernels))
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            for number in range(launches):
                kernels[number % len(kernels)]()
        begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
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
            cache_bytes: Bytes of the largest cache; 0: one copy of the buffers is enough.
            repeats: Measurements of each kernel.
        """
        self._cache_bytes = cache_bytes
        self._repeats = repeats

    def measure(self, build: Build, num_bytes: int) -> Sample:
        """Time a kernel; see `Timer`."""
        kernels = [build() for _ in range(copies_beyond(self._cache_bytes, num_bytes))]
        seconds = []
        for number in range(WARM_UPS + self._repeats):
            kernel = kernels[number % len(kernels)]
            begin = time.perf_counter()
            kernel()
            elapsed = time.perf_counter() - begin
            if number >= WARM_UPS:
                seconds.append(max(elapsed, 1e-9))
        return Sample.of(seconds)
