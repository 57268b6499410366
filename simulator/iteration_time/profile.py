"""Iteration time from measured kernels: regressions that were fitted to them, composed into an iteration."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from simulator.iteration_time.attention_table import AttentionTable
from simulator.iteration_time.base import StageTimes
from simulator.iteration_time.composed import ComposedTimes
from simulator.iteration_time.device_profile import (
    SHIPPED,
    SUFFIX,
    DeviceProfile,
    elementwise_key,
    load_profile,
    matmul_key,
)
from simulator.iteration_time.kernels import AttentionTimes, Floats, Kernels
from simulator.iteration_time.operators import Attention, Elementwise, MatMul
from simulator.iteration_time.physics import (
    elementwise_features,
    elementwise_terms,
    matmul_features,
    matmul_terms,
)
from simulator.iteration_time.provenance import Provenance
from simulator.iteration_time.roofline import RooflineKernels
from simulator.model import HALF, Device, IterationOverhead, Layout

# Operators that were measured under another name: the same kernel.
_SAME_KERNEL = {"final_norm": "input_norm"}


@dataclass(frozen=True)
class Profile:
    """Kernel times fitted to measurements of the device.

    Attributes:
        path: A file that `python -m profiling fit` wrote; None: the one that is shipped for the device. A
            device without one gets the roofline, and the run a warning.
    """

    path: str | None = None

    def __post_init__(self) -> None:
        """Check the path."""
        if self.path is not None and not isinstance(self.path, str):
            raise ValueError(f"path must be the path of a file or null, got {self.path!r}")

    def for_layout(self, layout: Layout, engine: IterationOverhead) -> StageTimes:
        """Prepare the prediction for one model on one layout.

        Raises:
            ValueError: The file cannot be read.
        """
        return ComposedTimes(self.kernels(layout.device), layout, engine)

    def kernels(self, device: Device) -> Kernels:
        """Return the kernel times of a device.

        Raises:
            ValueError: The file cannot be read.
        """
        if self.path is not None:
            return ProfileKernels(load_profile(Path(self.path)), device)
        if device.profile is not None:
            return ProfileKernels(_shipped(device.profile), device)
        roofline = RooflineKernels(device)
        shipped = ", ".join(sorted(path.name.removesuffix(SUFFIX) for path in SHIPPED.glob("*" + SUFFIX)))
        roofline.provenance = Provenance(
            roofline.provenance.source,
            warnings=[
                f"no kernel times were measured for {device.name}: its iteration time is a roofline "
                f"(measured devices: {shipped})"
            ],
        )
        return roofline


@cache
def _shipped(name: str) -> DeviceProfile:
    """Read a file of this package once; nothing in it changes."""
    return load_profile(SHIPPED / (name + SUFFIX))


class ProfileKernels:
    """Kernel times of a fitted device.

    Attributes:
        provenance: Where the times come from.
    """

    def __init__(self, profile: DeviceProfile, device: Device) -> None:
        about = profile.about
        self.provenance = Provenance(f"profile of {about['device']}, {about['source']}", profile.measured)
        self._profile = profile
        self._roofline = RooflineKernels(device)

    def matmul_time(self, operator: MatMul, tokens: Floats) -> Floats:
        """Seconds for each number of tokens: float64[n] -> float64[n].

        Half precision was measured; other weights take their share of it on a roofline, and experts a
        roofline alone.
        """
        if operator.num_experts > 1:
            return self._roofline.matmul_time(operator, tokens)
        times = self._profile.in_engine.times(tokens)
        if operator.dtype in HALF:
            return times * self._half_matmul_time(operator, tokens)
        half = MatMul(operator.name, operator.k, operator.n)
        ratio = self._roofline.matmul_time(operator, tokens) / self._roofline.matmul_time(half, tokens)
        return times * self._half_matmul_time(half, tokens) * ratio

    def _half_matmul_time(self, operator: MatMul, tokens: Floats) -> Floats:
        """A shape that was measured has its own lines; beyond them it grows as other shapes do."""
        profile = self._profile
        lines = profile.matmul_own.get(matmul_key(operator))
        if lines is None:
            return self._any_matmul_time(operator, tokens)
        seconds = lines.predict(tokens)
        beyond = tokens > lines.most_tokens
        if beyond.any():
            ends = np.concatenate([tokens[beyond], [lines.most_tokens]])
            other = self._any_matmul_time(operator, ends)
            seconds[beyond] *= other[:-1] / other[-1]
        return seconds

    def elementwise_time(self, operator: Elementwise, tokens: Floats) -> Floats:
        """Seconds for each number of tokens: float64[n] -> float64[n]."""
        profile = self._profile
        measured = Elementwise(_SAME_KERNEL.get(operator.name, operator.name), operator.width, operator.tp)
        seconds = self._any_elementwise_time(measured, tokens)
        lines = profile.elementwise_own.get(elementwise_key(measured))
        if lines is not None:
            within = tokens <= lines.most_tokens
            seconds[within] = lines.predict(tokens[within])
        return profile.in_engine.times(tokens) * seconds

    def attention_times(self, attention: Attention) -> AttentionTimes:
        """Prepare attention of one shape."""
        return AttentionTable(self._profile, attention)

    def _any_matmul_time(self, operator: MatMul, tokens: Floats) -> Floats:
        gpu = self._profile.gpu
        terms, features = matmul_terms(gpu, operator, tokens), matmul_features(gpu, operator, tokens)
        return self._profile.matmul.predict(terms, features)

    def _any_elementwise_time(self, operator: Elementwise, tokens: Floats) -> Floats:
        fits = self._profile.elementwise
        fit = fits.get(operator.name, fits["any"])
        return fit.predict(
            elementwise_terms(self._profile.gpu, operator, tokens), elementwise_features(operator, tokens)
        )
