"""Fitted kernel times of a device, written by `python -m profiling fit`."""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from simulator.iteration_time.operators import Attention, Elementwise, MatMul
from simulator.iteration_time.physics import Gpu
from simulator.iteration_time.provenance import Extent
from simulator.iteration_time.regression import CorrectedPhysics, Floats, TiledLines
from traces.shared.json_file import read_json

SCHEMA = 1
SHIPPED = Path(__file__).parent / "profiles"
SUFFIX = ".json.gz"
MAX_FACTOR = 100.0  # largest in-engine factor


@dataclass(frozen=True)
class AttentionFit:
    """Regressions of one phase of attention.

    Attributes:
        own: Fits to the measurements of one shape, by `attention_key`.
        transfer: Fit to all measurements, for every other shape.
    """

    own: Mapping[str, CorrectedPhysics]
    transfer: CorrectedPhysics


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
    """Fitted kernel times of a device.

    Attributes:
        about: Origin of the measurements: device, source, licence, date, engine_generation, notes, errors.
        gpu: Peaks of the device, which the physics terms are based on.
        measured: Extent of the measurements.
        matmul_own: Lines fitted to the measurements of one shape, by `matmul_key`.
        matmul: Fit for shapes that were not measured.
        elementwise_own: Lines fitted to the measurements of one operator and width, by `elementwise_key`.
        elementwise: Fits by operator name, and "any" for operators that were not measured.
        prefill: Prefill attention.
        decode: Decode attention.
        most_bandwidth: Share of the HBM bandwidth that predicted decode attention does not exceed.
        in_engine: Slowdown of operators within iterations.
    """

    about: Mapping[str, Any]
    gpu: Gpu
    measured: Extent
    matmul_own: Mapping[str, TiledLines]
    matmul: CorrectedPhysics
    elementwise_own: Mapping[str, TiledLines]
    elementwise: Mapping[str, CorrectedPhysics]
    prefill: AttentionFit
    decode: AttentionFit
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
            "matmul_own": {key: lines.to_json() for key, lines in self.matmul_own.items()},
            "matmul": self.matmul.to_json(),
            "elementwise_own": {key: lines.to_json() for key, lines in self.elementwise_own.items()},
            "elementwise": {key: fit.to_json() for key, fit in self.elementwise.items()},
            "prefill": _attention_json(self.prefill),
            "decode": _attention_json(self.decode),
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "DeviceProfile":
        """Build a profile from what `to_json` returned.

        Raises:
            ValueError, KeyError, TypeError: The values are not a profile.
        """
        if plain["schema"] != SCHEMA:
            raise ValueError(f"schema must be {SCHEMA}, got {plain['schema']!r}")
        about = dict(plain["about"])
        for name in ("device", "source"):
            if not isinstance(about[name], str):
                raise ValueError(f"about.{name} must be a text")
        measured = Extent(**{part.name: _count(plain["measured"][part.name], part.name) for part in fields(Extent)})
        if "any" not in plain["elementwise"]:
            raise ValueError('elementwise must have "any", the fit for operators that were not measured')
        most_bandwidth = plain["most_bandwidth"]
        if not isinstance(most_bandwidth, int | float) or not 0 < most_bandwidth <= 1:
            raise ValueError(f"most_bandwidth must be above 0 and at most 1, got {most_bandwidth!r}")
        gpu = Gpu(**plain["gpu"])
        if not all(isinstance(peak, int | float) and 0 < peak < float("inf") for peak in asdict(gpu).values()):
            raise ValueError("gpu must hold finite numbers above 0")
        return cls(
            about=about,
            gpu=gpu,
            measured=measured,
            matmul_own={key: TiledLines.from_json(lines) for key, lines in plain["matmul_own"].items()},
            matmul=CorrectedPhysics.from_json(plain["matmul"]),
            elementwise_own={key: TiledLines.from_json(lines) for key, lines in plain["elementwise_own"].items()},
            elementwise={key: CorrectedPhysics.from_json(fit) for key, fit in plain["elementwise"].items()},
            prefill=_attention_fit(plain["prefill"]),
            decode=_attention_fit(plain["decode"]),
            most_bandwidth=float(most_bandwidth),
            in_engine=InEngine(**plain.get("in_engine", {})),
        )

    def to_bytes(self) -> bytes:
        """Return the content of a profile file; equal profiles give equal bytes."""
        return gzip.compress(json.dumps(self.to_json(), separators=(",", ":")).encode(), mtime=0)


def matmul_key(operator: MatMul) -> str:
    """Return the key of a matmul shape, k x n: `4096x6144`."""
    return f"{operator.k}x{operator.n}"


def elementwise_key(operator: Elementwise) -> str:
    """Return the key of an operator, such as `rope 10240 tp4`.

    Name, values per token and tensor-parallel degree.
    """
    return f"{operator.name} {operator.width} tp{operator.tp}"


def attention_key(attention: Attention) -> str:
    """Return the key of an attention shape, such as `32/8/128`.

    Query heads, KV heads and head dim.
    """
    return f"{attention.q_heads}/{attention.kv_heads}/{attention.head_dim}"


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


def _attention_json(fit: AttentionFit) -> dict[str, Any]:
    return {"own": {key: own.to_json() for key, own in fit.own.items()}, "transfer": fit.transfer.to_json()}


def _attention_fit(plain: Mapping[str, Any]) -> AttentionFit:
    own = {key: CorrectedPhysics.from_json(fit) for key, fit in plain["own"].items()}
    return AttentionFit(own, CorrectedPhysics.from_json(plain["transfer"]))
