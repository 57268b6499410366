"""Kernel timing: warm-up, rotated buffers, median of repeated runs."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

# Runs a kernel on the buffers that it was built with.
Kernel = Callable[[], object]
# Makes a kernel with its own buffers.
Build = Callable[[], Kernel]

WARM_UPS = 3
REPEATS = 25
# Kernels between two events, which amortise the cost of the events and of the graph launch. Long kernels need fewer.
LAUNCHES = 16
REPLAY_S = 1e-3
MAX_COPIES = 64
# Of CUDA events.
RESOLUTION_S = 5e-7


@dataclass(frozen=True)
class Sample:
    """Time of one kernel over repeated measurements.

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
        """Summarize repeated measurements, at least 20."""
        assert len(seconds) >= 20
        return cls(statistics.median(seconds), min(seconds), statistics.pstdev(seconds))


class Timer(Protocol):
    """A timer of kernels on a device."""

    def measure(self, build: Build, cold_bytes: int) -> Sample:
        """Time a kernel.

        Args:
            build: Makes the kernel, each time on a new copy of its cold buffers.
            cold_bytes: Bytes of one copy; 0: no cold buffers.
        """
        ...


def copies_beyond(cache_bytes: int, cold_bytes: int) -> int:
    """Return the number of copies that exceed a cache twice over.

    A kernel then never finds its data cached.
    """
    return max(1, min(MAX_COPIES, -(-2 * cache_bytes // cold_bytes))) if cold_bytes else 1


class CudaTimer:
    """A timer that captures kernels in a CUDA graph.

    CUDA events around the graph time kernels without launch gaps.
    """

    def __init__(self, torch: Any, repeats: int = REPEATS) -> None:
        """Create the stream.

        Args:
            torch: The module.
            repeats: Measurements per kernel.
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
        upper_s = max(begin.elapsed_time(end) * 1e-3, RESOLUTION_S) / len(kernels)
        launches = max(1, min(LAUNCHES, math.ceil(REPLAY_S / upper_s)), len(kernels))
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            for launch in range(launches):
                kernels[launch % len(kernels)]()
        seconds = []
        for repeat in range(WARM_UPS + self._repeats):
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            if repeat >= WARM_UPS:
                seconds.append(max(begin.elapsed_time(end) * 1e-3, RESOLUTION_S) / launches)
        return Sample.of(seconds)


class WallTimer:
    """A timer by the host clock, for synchronous kernels."""

    def __init__(self, cache_bytes: int = 0, repeats: int = REPEATS) -> None:
        """Set the size of the cache to keep cold.

        Args:
            cache_bytes: Bytes of the cache; 0: one copy of the buffers is enough.
            repeats: Measurements per kernel.
        """
        self._cache_bytes = cache_bytes
        self._repeats = repeats

    def measure(self, build: Build, cold_bytes: int) -> Sample:
        """Time a kernel; see `Timer`."""
        kernels = [build() for _ in range(copies_beyond(self._cache_bytes, cold_bytes))]
        seconds = []
        for repeat in range(WARM_UPS + self._repeats):
            kernel = kernels[repeat % len(kernels)]
            begin = time.perf_counter()
            kernel()
            elapsed = time.perf_counter() - begin
            if repeat >= WARM_UPS:
                seconds.append(max(elapsed, 1e-9))
        return Sample.of(seconds)
