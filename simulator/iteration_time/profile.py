"""Iteration time from regressions that are fitted to measured kernels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from simulator.iteration_time.attention_table import AttentionTable
from simulator.iteration_time.base import StageTimes
from simulator.iteration_time.composed import ComposedTimes
from simulator.iteration_time.device_profile import HALF_FORMAT, SHIPPED, SUFFIX, DeviceProfile, load_profile
from simulator.iteration_time.experts import ROUTING, ExpertCases
from simulator.iteration_time.kernels import AttentionTimes, Floats, Kernels
from simulator.iteration_time.operators import Attention, Elementwise, Experts, MatMul
from simulator.iteration_time.provenance import Provenance
from simulator.iteration_time.roofline import RooflineKernels
from simulator.model import HALF, Device, IterationOverhead, Layout

# Operators that run the kernel of another one, under whose names it was measured.
_SAME_KERNEL = {"final_norm": ("add_norm", "input_norm")}


@dataclass(frozen=True)
class Profile:
    """Iteration time from kernel times fitted to measurements of the device.

    Attributes:
        path: File that `python -m profiling fit` wrote; None: the profile shipped for the device and the kernels of the
            engine. A device without one takes that of other kernels, or the roofline, with a warning.
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
        return ComposedTimes(self.kernels(layout.device, engine.kernels), layout, engine)

    def kernels(self, device: Device, generation: str | None = None) -> Kernels:
        """Return the kernel times of a device.

        Args:
            device: The device.
            generation: Generation of the kernels, a key of `Device.profiles`; None: any.

        Raises:
            ValueError: The file cannot be read.
        """
        if self.path is not None:
            return ProfileKernels(load_profile(Path(self.path)), device)
        if not device.profiles:
            return _unmeasured(device)
        chosen = generation if generation in device.profiles else None
        chosen = chosen or next(iter(device.profiles))
        kernels = ProfileKernels(_shipped(device.profiles[chosen]), device)
        if generation is not None and chosen != generation:
            kernels.warnings.append(
                f"kernels of {generation} were not measured on {device.name}: those of {chosen} are used"
            )
        return kernels


def _unmeasured(device: Device) -> Kernels:
    """Return the roofline of a device without a profile."""
    shipped = ", ".join(sorted(path.name.removesuffix(SUFFIX) for path in SHIPPED.glob("*" + SUFFIX)))
    roofline = RooflineKernels(device)
    roofline.warnings.append(
        f"no kernel times were measured for {device.name}: its iteration time is a roofline "
        f"(measured devices: {shipped})"
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
        warnings: What was not measured, whatever the layout.
    """

    def __init__(self, profile: DeviceProfile, device: Device) -> None:
        about = profile.about
        source = f"profile of {about['device']}, {about['source']}"
        self.provenance = Provenance(source, profile.measured, beyond=about.get("beyond", {}))
        self.warnings: list[str] = []
        self._profile = profile
        self._device = device
        self._roofline = RooflineKernels(device)

    def matmul_time(self, operator: MatMul, tokens: Floats) -> Floats:
        """Return the seconds for each number of tokens: float64[n] -> float64[n].

        A format that was not measured scales half precision by the ratio of the two on a roofline.
        """
        profile = self._profile
        factors = profile.in_engine.times(tokens)
        dtype = _format_key(operator.dtype)
        if dtype in profile.matmul and not (operator.weight_only and dtype != HALF_FORMAT):
            return factors * profile.matmul[dtype].predict(profile.gpu, operator, tokens)
        half = MatMul(operator.name, operator.k, operator.n)
        ratio = self._roofline.matmul_time(operator, tokens) / self._roofline.matmul_time(half, tokens)
        return factors * profile.matmul[HALF_FORMAT].predict(profile.gpu, half, tokens) * ratio

    def elementwise_time(self, operator: Elementwise, tokens: Floats) -> Floats:
        """Return the seconds for each number of tokens: float64[n] -> float64[n]."""
        profile = self._profile
        names = _SAME_KERNEL.get(operator.name, ())
        name = next((name for name in names if name in profile.elementwise.shared), operator.name)
        measured = Elementwise(name, operator.width, operator.tp)
        return profile.in_engine.times(tokens) * profile.elementwise.predict(profile.gpu, measured, tokens)

    def experts_time(self, operator: Experts, tokens: Floats) -> Floats:
        """Return the seconds for each number of tokens: float64[n] -> float64[n].

        Tokens are distributed by the power law of `ROUTING`. Formats that were not measured are on the roofline.
        """
        fit = self._profile.experts.get(_format_key(operator.dtype))
        if fit is None:
            return self._roofline.experts_time(operator, tokens)
        cases = ExpertCases(operator, tokens, np.full(len(tokens), ROUTING))
        return fit.predict(self._profile.gpu, cases)

    def attention_times(self, attention: Attention) -> AttentionTimes:
        """Return the attention times of one shape."""
        return AttentionTable(self._profile, attention)

    def warnings_for(self, layout: Layout) -> Sequence[str]:
        """Return what was not measured of a layout, in a line each."""
        profile, model, device = self._profile, layout.model, layout.device
        warnings = list(self.warnings)
        if _format_key(model.dtype) not in profile.matmul or (model.weight_only and model.dtype not in HALF):
            in_half = model.weight_only or not device.computes_in(model.dtype)
            multiplied = f", multiplied in half precision on {device.name}" if in_half else ""
            warnings.append(
                f"{model.dtype} weights were not measured{multiplied}: their matmuls take the time of half precision "
                "times the ratio of the two on a roofline"
            )
        if _format_key(layout.kv_dtype) not in profile.attention:
            warnings.append(
                f"a KV cache of {layout.kv_dtype} was not measured: attention is as with fp16, but reads fewer bytes"
            )
        if model.num_experts > 1 and _format_key(model.dtype) not in profile.experts:
            warnings.append("experts were not measured: their matmuls are on a roofline, with tokens routed at random")
        return warnings


def _format_key(dtype: str) -> str:
    """Return the key of a number format in a profile."""
    return HALF_FORMAT if dtype in HALF else dtype
