"""Fitted kernel times of a device, written by `python -m profiling fit`."""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from simulator.iteration_time.kernel_fits import AttentionFits, ElementwiseFit, ExpertsFit, MatMulFit, plain_json
from simulator.iteration_time.kernels import Floats
from simulator.iteration_time.physics import Gpu
from simulator.iteration_time.provenance import Extent
from traces.shared.json_file import read_json, reading
from traces.shared.value_checks import increasing, instance, integer, number, sequence, text

SCHEMA = 2
SHIPPED = Path(__file__).parent / "profiles"
SUFFIX = ".json.gz"
HALF_FORMAT = "bf16"  # key of half precision, whichever it is
MAX_FACTOR = 100.0  # largest in-engine factor


@dataclass(frozen=True)
class InEngine:
    """Slowdown of operators in an engine, relative to benchmarks of each alone.

    An engine streams its weights through the caches between two calls of an operator; a benchmark does not.

    Attributes:
        tokens: Numbers of tokens, increasing, at which the factors of all operators but attention are known.
        factors: Factors at `tokens`; interpolated linearly over the logarithm of the tokens, constant beyond them.
        prefill_attention: Factor of prefill attention.
        decode_attention: Factor of decode attention.
    """

    tokens: Sequence[float] = (1.0,)
    factors: Sequence[float] = (1.0,)
    prefill_attention: float = 1.0
    decode_attention: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        factors = [*self.factors, self.prefill_attention, self.decode_attention]
        for value in factors:
            number("in_engine: a factor", value, 0, MAX_FACTOR, excluding="low")
        size = len(self.factors)
        allowed = "a list of numbers of at least 1, one for each factor"
        sequence("in_engine: tokens", self.tokens, allowed, number, 1, least=max(size, 1), most=size)
        increasing("in_engine: tokens", self.tokens)

    def times(self, tokens: Floats) -> Floats:
        """Return the factors of all operators but attention: tokens float64[n] -> float64[n]."""
        return np.interp(np.log2(tokens), np.log2(self.tokens), self.factors)


@dataclass(frozen=True)
class DeviceProfile:
    """Fitted kernel times of a device, under one generation of kernels.

    Attributes:
        about: Origin of the measurements: device, also_of (devices of the same kernel times), source, licence, date,
            engine_generation, kernels, notes, errors on held-out rows, and beyond (errors of extrapolation).
        gpu: Peaks of the device, which the physics terms are based on.
        measured: Extent of the measurements.
        matmul: Matrix products by number format.
        elementwise: Elementwise operators.
        attention: Attention by number format of the KV cache.
        experts: Experts by number format; empty: not measured.
        most_bandwidth: Share of the HBM bandwidth that predicted decode attention does not exceed.
        in_engine: Slowdown of operators within iterations.
    """

    about: Mapping[str, Any]
    gpu: Gpu
    measured: Extent
    matmul: Mapping[str, MatMulFit]
    elementwise: ElementwiseFit
    attention: Mapping[str, AttentionFits]
    experts: Mapping[str, ExpertsFit]
    most_bandwidth: float
    in_engine: InEngine = InEngine()

    def to_json(self) -> dict[str, Any]:
        """Return the profile as plain JSON values."""
        fits = {name: plain_json(getattr(self, name)) for name in ("matmul", "elementwise", "attention", "experts")}
        return {
            "schema": SCHEMA,
            "about": dict(self.about),
            "gpu": asdict(self.gpu),
            "measured": asdict(self.measured),
            "most_bandwidth": self.most_bandwidth,
            "in_engine": asdict(self.in_engine),
            **fits,
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "DeviceProfile":
        """Build a profile from what `to_json` returned.

        Raises:
            ValueError, KeyError, TypeError: The values are not a profile.
        """
        if plain["schema"] != SCHEMA:
            raise ValueError(f"schema must be {SCHEMA}, got {plain['schema']!r}; fit it again: python -m profiling fit")
        about = dict(plain["about"])
        for name in ("device", "source"):
            text(f"about.{name}", about[name])
        for family in ("matmul", "attention"):
            if HALF_FORMAT not in plain[family]:
                raise ValueError(f"{family} must have {HALF_FORMAT}, the times in half precision")
        number("most_bandwidth", plain["most_bandwidth"], 0, 1, excluding="low")
        extent = {part.name: plain["measured"][part.name] for part in fields(Extent)}
        for name, value in extent.items():
            integer(f"measured.{name}", value, 1)
        return cls(
            about=about,
            gpu=_gpu(plain["gpu"]),
            measured=Extent(**extent),
            matmul={dtype: MatMulFit.from_json(fit) for dtype, fit in plain["matmul"].items()},
            elementwise=ElementwiseFit.from_json(plain["elementwise"]),
            attention={dtype: AttentionFits.from_json(fits) for dtype, fits in plain["attention"].items()},
            experts={dtype: ExpertsFit.from_json(fit) for dtype, fit in plain["experts"].items()},
            most_bandwidth=float(plain["most_bandwidth"]),
            in_engine=InEngine(**plain.get("in_engine", {})),
        )

    def to_bytes(self) -> bytes:
        """Return the content of a profile file; equal profiles give equal bytes."""
        return gzip.compress(json.dumps(self.to_json(), separators=(",", ":")).encode(), mtime=0)


def _gpu(plain: Mapping[str, Any]) -> Gpu:
    gpu = Gpu(**plain)
    for peak in (gpu.num_sms, gpu.peak_tflops, gpu.bandwidth_gb_per_s, *gpu.format_tflops.values()):
        number("a peak of gpu", peak, 0, excluding="low")
    return gpu


def load_profile(path: Path) -> DeviceProfile:
    """Load a profile; no code in the file is executed.

    Raises:
        ValueError: The file cannot be read or is not a profile; the message is one line and names the file.
    """
    with reading(path, "a profile"):
        plain = read_json(path)
        instance("it", plain, dict, "a JSON object")
        return DeviceProfile.from_json(plain)
