"""Iteration time from regressions that are fitted to measured kernels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from simulator.iteration_time.attention import AttentionTimes
from simulator.iteration_time.attention_table import AttentionTable
from simulator.iteration_time.base import StageTimes
from simulator.iteration_time.composed import ComposedTimes
from simulator.iteration_time.device_profile import HALF_FORMAT, SHIPPED, SUFFIX, DeviceProfile, load_profile
from simulator.iteration_time.experts import ROUTING, ExpertCases
from simulator.iteration_time.kernels import Floats, Kernels
from simulator.iteration_time.operators import Attention, Elementwise, Experts, MatMul, Operator
from simulator.iteration_time.provenance import Provenance
from simulator.iteration_time.roofline import RooflineKernels
from simulator.model import HALF, Device, EngineOverhead, Layout
from traces.shared.value_checks import text
from traces.shared.warnings import Warning

# Operators that run the kernel of another one, under whose names it was measured.
_SAME_KERNEL = {"final_norm": ("add_norm", "input_norm")}
# Operators that only move bytes, for which the fit to all operators is enough.
_COPIES = {"kv_write", "residual_add", "sampling"}


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
        text("path", self.path, "the path of a file", optional=True)

    def for_layout(self, layout: Layout, engine: EngineOverhead) -> StageTimes:
        """Return the stage times of one model on one layout.

        Raises:
            ValueError: The file cannot be read.
        """
        return ComposedTimes(self.kernels(layout.device, engine.kernels), layout, engine)

    def kernels(self, device: Device, generation: str | None = None) -> Kernels:
        """Return the kernel times of a device.

        Args:
            device: The device.
            generation: Generation of the kernels, a key of `Device.profiles`; None: the first of the device.

        Raises:
            ValueError: The file cannot be read.
        """
        if self.path is not None:
            return ProfileKernels(load_profile(Path(self.path)), device, generation)
        if not device.profiles:
            return _unmeasured(device)
        name = device.profiles.get(generation or "", next(iter(device.profiles.values())))
        return ProfileKernels(_shipped(name), device, generation)


def _unmeasured(device: Device) -> Kernels:
    """Return the roofline of a device without a profile."""
    shipped = ", ".join(sorted(path.name.removesuffix(SUFFIX) for path in SHIPPED.glob("*" + SUFFIX)))
    roofline = RooflineKernels(device)
    measured = f"its iteration time is a roofline (measured devices: {shipped})"
    roofline.warnings.append(Warning("no_profile", f"no kernel times were measured for {device.name}: {measured}"))
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

    def __init__(self, profile: DeviceProfile, device: Device, generation: str | None = None) -> None:
        """Take the fits of a device.

        Args:
            profile: The fits.
            device: The device; a warning says if the fits are of another one.
            generation: Generation of the engine's kernels; a warning says if the fits are of another one.
        """
        about = profile.about
        source = f"profile of {about['device']}, {about['source']}"
        measured_in = str(about.get("engine_generation", "")).partition(":")[0]
        self.provenance = Provenance(source, profile.measured, beyond=about.get("beyond", {}), generation=measured_in)
        self.warnings: list[Warning] = []
        if device.name not in (about["device"], *about.get("also_of", ())):
            other = f"kernel times of {about['device']} are used for {device.name}"
            self.warnings.append(Warning("other_kernels", other))
        kernels = about.get("kernels")
        if None not in (generation, kernels) and kernels != generation:
            other = f"kernel times of {kernels} are used for those of {generation}, on {device.name}"
            self.warnings.append(Warning("other_kernels", other))
        self._profile = profile
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
        measured = Elementwise(self._measured_name(operator.name), operator.width, operator.tp)
        return profile.in_engine.times(tokens) * profile.elementwise.predict(profile.gpu, measured, tokens)

    def _measured_name(self, operator: str) -> str:
        """Return the name under which an operator's kernel was measured."""
        names = _SAME_KERNEL.get(operator, ())
        return next((name for name in names if name in self._profile.elementwise.shared), operator)

    def experts_time(self, operator: Experts, tokens: Floats) -> Floats:
        """Return the seconds for each number of tokens: float64[n] -> float64[n].

        Tokens are distributed by the power law of `ROUTING`. A format that was not measured scales half precision by
        the ratio of the two on a roofline. Without measured experts, they are on the roofline.
        """
        fits = self._profile.experts
        if HALF_FORMAT not in fits:
            return self._roofline.experts_time(operator, tokens)
        if self._measures_experts(operator.dtype, weight_only=operator.weight_only):
            return self._measured_experts_time(operator, _format_key(operator.dtype), tokens)
        half = replace(operator, dtype=HALF_FORMAT, weight_only=False)
        ratio = self._roofline.experts_time(operator, tokens) / self._roofline.experts_time(half, tokens)
        return self._measured_experts_time(half, HALF_FORMAT, tokens) * ratio

    def _measures_experts(self, dtype: str, *, weight_only: bool) -> bool:
        return _format_key(dtype) in self._profile.experts and (dtype in HALF or not weight_only)

    def _measured_experts_time(self, operator: Experts, dtype: str, tokens: Floats) -> Floats:
        cases = ExpertCases(operator, tokens, np.full(len(tokens), ROUTING))
        return self._profile.experts[dtype].predict(self._profile.gpu, cases)

    def attention_times(self, attention: Attention) -> AttentionTimes:
        """Return the attention times of one shape."""
        return AttentionTable(self._profile, attention)

    def warnings_for(self, layout: Layout, operators: Sequence[Operator]) -> Sequence[Warning]:
        """Return a warning for each unmeasured part of a layout."""
        profile, model, device = self._profile, layout.model, layout.device
        texts = []
        names = sorted({operator.name for operator in operators if isinstance(operator, Elementwise)} - _COPIES)
        unmeasured = [name for name in names if self._measured_name(name) not in profile.elementwise.shared]
        if unmeasured:
            texts.append(f"not measured: {', '.join(unmeasured)}; their times are those of other small operators")
        if _format_key(model.dtype) not in profile.matmul or (model.weight_only and model.dtype not in HALF):
            in_half = model.weight_only or not device.computes_in(model.dtype)
            multiplied = f", multiplied in half precision on {device.name}" if in_half else ""
            texts.append(
                f"{model.dtype} weights were not measured{multiplied}: their matmuls take the time of half precision "
                "times the ratio of the two on a roofline"
            )
        if _format_key(layout.kv_dtype) not in profile.attention:
            texts.append(
                f"a KV cache of {layout.kv_dtype} was not measured: attention is as with fp16, but reads fewer bytes"
            )
        if model.num_experts > 1 and not self._measures_experts(model.dtype, weight_only=model.weight_only):
            texts.append(
                f"experts in {model.dtype} were not measured: they take the time of half precision times the ratio of "
                "the two on a roofline"
                if HALF_FORMAT in profile.experts
                else "experts were not measured: their matmuls are on a roofline, with tokens routed at random"
            )
        return [*self.warnings, *(Warning("unmeasured", text) for text in texts)]


def _format_key(dtype: str) -> str:
    """Return the key of a number format in a profile."""
    return HALF_FORMAT if dtype in HALF else dtype
