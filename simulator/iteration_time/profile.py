"""Iteration time from regressions that are fitted to measured kernels."""

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

# Operators that run the kernel of another one, under whose name it was measured.
_SAME_KERNEL = {"final_norm": "input_norm"}


@dataclass(frozen=True)
class Profile:
    """Iteration time from kernel times fitted to measurements of the device.

    Attributes:
        path: File that `python -m profiling fit` wrote; None: the profile shipped for the device. A device without
            one falls back to the roofline, with a warning.
    """

    path: str | None = None

    def __post_init__(self) -> None:
        """Check the path."""
        if self.path is not None and not isinstance(self.path, str):
            raise ValueError(f"path must be the path of a file or null, got {self.path!r}")

    def for_layout(self, layout: Layout, engine: IterationOverhead) -> StageTimes:
        """Return the stage times of one model on one layout.

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
    """Load a shipped profile once."""
    return load_profile(SHIPPED / (name + SUFFIX))


class ProfileKernels:
    """Fitted kernel times of a device.

    Attributes:
        provenance: Source and extent of the measurements.
    """

    def __init__(self, profile: DeviceProfile, device: Device) -> None:
        about = profile.about
        self.provenance = Provenance(f"profile of {about['device']}, {about['source']}", profile.measured)
        self._profile = profile
        self._roofline = RooflineKernels(device)

    def matmul_time(self, operator: MatMul, tokens: Floats) -> Floats:
        """Return the seconds for each number of tokens: float64[n] -> float64[n].

        Only half precision was measured. Other formats scale it by their ratio on a roofline; experts are on the
        roofline alone.
        """
        if operator.num_experts > 1:
            return self._roofline.matmul_time(operator, tokens)
        factors = self._profile.in_engine.times(tokens)
        if operator.dtype in HALF:
            return factors * self._half_matmul_time(operator, tokens)
        half = MatMul(operator.name, operator.k, operator.n)
        ratio = self._roofline.matmul_time(operator, tokens) / self._roofline.matmul_time(half, tokens)
        return factors * self._half_matmul_time(half, tokens) * ratio

    def _half_matmul_time(self, operator: MatMul, tokens: Floats) -> Floats:
        """Return the seconds in half precision.

        From the fitted lines of the shape, extrapolated by the common fit; from that fit alone for other shapes.
        """
        profile = self._profile
        lines = profile.matmul_own.get(matmul_key(operator))
        if lines is None:
            return self._common_matmul_time(operator, tokens)
        seconds = lines.predict(tokens)
        beyond = tokens > lines.most_tokens
        if beyond.any():
            ends = np.concatenate([tokens[beyond], [lines.most_tokens]])
            common = self._common_matmul_time(operator, ends)
            seconds[beyond] *= common[:-1] / common[-1]
        return seconds

    def elementwise_time(self, operator: Elementwise, tokens: Floats) -> Floats:
        """Return the seconds for each number of tokens: float64[n] -> float64[n]."""
        profile = self._profile
        measured = Elementwise(_SAME_KERNEL.get(operator.name, operator.name), operator.width, operator.tp)
        seconds = self._common_elementwise_time(measured, tokens)
        lines = profile.elementwise_own.get(elementwise_key(measured))
        if lines is not None:
            within = tokens <= lines.most_tokens
            seconds[within] = lines.predict(tokens[within])
        return profile.in_engine.times(tokens) * seconds

    def attention_times(self, attention: Attention) -> AttentionTimes:
        """Return the attention times of one shape."""
        return AttentionTable(self._profile, attention)

    def _common_matmul_time(self, operator: MatMul, tokens: Floats) -> Floats:
        gpu = self._profile.gpu
        terms, features = matmul_terms(gpu, operator, tokens), matmul_features(gpu, operator, tokens)
        return self._profile.matmul.predict(terms, features)

    def _common_elementwise_time(self, operator: Elementwise, tokens: Floats) -> Floats:
        fits = self._profile.elementwise
        fit = fits.get(operator.name, fits["any"])
        return fit.predict(
            elementwise_terms(self._profile.gpu, operator, tokens), elementwise_features(operator, tokens)
        )
