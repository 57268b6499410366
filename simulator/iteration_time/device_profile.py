"""Fitted kernel times of a device, written by `python -m profiling fit`."""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from simulator.iteration_time.kernel_fits import AttentionFits, ElementwiseFit, ExpertsFit, MatMulFit
from simulator.iteration_time.kernels import Floats
from simulator.iteration_time.physics import Gpu
from simulator.iteration_time.provenance import Extent
from traces.shared.json_file import read_json

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
        for value in (*self.factors, self.prefill_attention, self.decode_attention):
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= MAX_FACTOR:
                raise ValueError(f"in_engine: factors must be above 0 and at most {MAX_FACTOR:g}, got {value!r}")
        tokens = list(self.tokens)
        if len(tokens) != len(self.factors) or not tokens or min(tokens) < 1 or sorted(set(tokens)) != tokens:
            raise ValueError("in_engine: tokens must be increasing numbers of at least 1, one for each factor")

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
        return {
            "schema": SCHEMA,
            "about": dict(self.about),
            "gpu": asdict(self.gpu),
            "measured": asdict(self.measured),
            "most_bandwidth": self.most_bandwidth,
            "in_engine": asdict(self.in_engine),
            "matmul": {dtype: fit.to_json() for dtype, fit in self.matmul.items()},
            "elementwise": self.elementwise.to_json(),
            "attention": {dtype: fits.to_json() for dtype, fits in self.attention.items()},
            "experts": {dtype: fit.to_json() for dtype, fit in self.experts.items()},
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
            if not isinstance(about[name], str):
                raise ValueError(f"about.{name} must be a text")
        for family in ("matmul", "attention"):
            if HALF_FORMAT not in plain[family]:
                raise ValueError(f"{family} must have {HALF_FORMAT}, the times in half precision")
        most_bandwidth = plain["most_bandwidth"]
        if not isinstance(most_bandwidth, int | float) or not 0 < most_bandwidth <= 1:
            raise ValueError(f"most_bandwidth must be above 0 and at most 1, got {most_bandwidth!r}")
        return cls(
            about=about,
            gpu=_gpu(plain["gpu"]),
            measured=Extent(**{part.name: _count(plain["measured"][part.name], part.name) for part in fields(Extent)}),
            matmul={dtype: MatMulFit.from_json(fit) for dtype, fit in plain["matmul"].items()},
            elementwise=ElementwiseFit.from_json(plain["elementwise"]),
            attention={dtype: AttentionFits.from_json(fits) for dtype, fits in plain["attention"].items()},
            experts={dtype: ExpertsFit.from_json(fit) for dtype, fit in plain["experts"].items()},
            most_bandwidth=float(most_bandwidth),
            in_engine=InEngine(**plain.get("in_engine", {})),
        )

    def to_bytes(self) -> bytes:
        """Return the content of a profile file; equal profiles give equal bytes."""
        return gzip.compress(json.dumps(self.to_json(), separators=(",", ":")).encode(), mtime=0)


def _gpu(plain: Mapping[str, Any]) -> Gpu:
    gpu = Gpu(**plain)
    peaks = (gpu.num_sms, gpu.peak_tflops, gpu.bandwidth_gb_per_s, *gpu.format_tflops.values())
    if not all(isinstance(peak, int | float) and 0 < peak < float("inf") for peak in peaks):
        raise ValueError("gpu must hold finite numbers above 0")
    return gpu


def load_profile(path: Path) -> DeviceProfile:
    """Load a profile; no code in the file is executed.

    Raises:
        ValueError: The file cannot be read or is not a profile; the message is one line and names the file.
    """
    try:
        plain = read_json(path)
        if not isinstance(plain, dict):
            raise ValueError("it holds no JSON object")
        return DeviceProfile.from_json(plain)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except KeyError as error:
        raise ValueError(f"{path} is not a profile: it has no {error.args[0]}") from error
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} is not a profile: {' '.join(str(error).split())[:200]}") from error


def _count(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"measured.{name} must be an integer of at least 1, got {value!r}")
    return value
