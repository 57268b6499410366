"""Fitted times of kernels, by family."""

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import numpy as np

from simulator.iteration_time.attention_inputs import DESIGNS, AttentionCases
from simulator.iteration_time.experts import ExpertCases, experts_inputs
from simulator.iteration_time.kernels import Floats
from simulator.iteration_time.operators import Attention, Elementwise, MatMul
from simulator.iteration_time.physics import (
    Gpu,
    elementwise_features,
    elementwise_terms,
    least_elementwise_time,
    matmul_features,
    matmul_terms,
)
from simulator.iteration_time.regression import CorrectedPhysics, TiledLines
from traces.shared.value_checks import choice, flag


def plain_json(part: Any) -> Any:
    """Return fits, or a mapping of them, as JSON values."""
    if isinstance(part, CorrectedPhysics | TiledLines):
        return part.to_json()
    values = vars(part) if is_dataclass(part) else part
    return {key: plain_json(value) for key, value in values.items()} if isinstance(values, Mapping) else values


@dataclass(frozen=True)
class MatMulFit:
    """Times of matrix products in one number format.

    Attributes:
        shared: Fit to all measured shapes.
        own: Lines fitted to the measurements of one shape, by `matmul_key`.
    """

    shared: CorrectedPhysics
    own: Mapping[str, TiledLines] = field(default_factory=dict)

    def predict(self, gpu: Gpu, operator: MatMul, tokens: Floats) -> Floats:
        """Return the seconds: float64[n] -> float64[n].

        From the lines of the shape, extrapolated by the shared fit; from that fit alone for other shapes.
        """
        lines = self.own.get(matmul_key(operator))
        if lines is None:
            return self._shared_time(gpu, operator, tokens)
        seconds = lines.predict(tokens)
        beyond = tokens > lines.most_tokens
        if beyond.any():
            ends = np.concatenate([tokens[beyond], [lines.most_tokens]])
            shared = self._shared_time(gpu, operator, ends)
            seconds[beyond] *= shared[:-1] / shared[-1]
        return seconds

    def _shared_time(self, gpu: Gpu, operator: MatMul, tokens: Floats) -> Floats:
        return self.shared.predict(matmul_terms(gpu, operator, tokens), matmul_features(gpu, operator, tokens))

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "MatMulFit":
        """Build from what `plain_json` returned."""
        own = {key: TiledLines.from_json(lines) for key, lines in plain["own"].items()}
        return cls(CorrectedPhysics.from_json(plain["shared"]), own)


@dataclass(frozen=True)
class ElementwiseFit:
    """Times of elementwise operators.

    Attributes:
        shared: Fits by operator name, and "any" for operators that were not measured.
        own: Lines fitted to the measurements of one operator and width, by `elementwise_key`.
    """

    shared: Mapping[str, CorrectedPhysics]
    own: Mapping[str, TiledLines] = field(default_factory=dict)

    def predict(self, gpu: Gpu, operator: Elementwise, tokens: Floats) -> Floats:
        """Return the seconds: float64[n] -> float64[n]."""
        fit = self.shared.get(operator.name, self.shared["any"])
        fitted = fit.predict(elementwise_terms(gpu, operator, tokens), elementwise_features(operator, tokens))
        seconds = np.maximum(fitted, least_elementwise_time(gpu, operator, tokens))
        lines = self.own.get(elementwise_key(operator))
        if lines is not None:
            within = tokens <= lines.most_tokens
            seconds[within] = lines.predict(tokens[within])
        return seconds

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "ElementwiseFit":
        """Build from what `plain_json` returned."""
        if "any" not in plain.get("shared", {}):
            raise ValueError('elementwise must have "any", the fit for operators that were not measured')
        return cls(
            {key: CorrectedPhysics.from_json(fit) for key, fit in plain["shared"].items()},
            {key: TiledLines.from_json(lines) for key, lines in plain["own"].items()},
        )


@dataclass(frozen=True)
class AttentionFit:
    """Times of one phase of attention.

    Attributes:
        design: Inputs of the fits, a name of `DESIGNS`.
        shared: Fit to all measurements.
        own: Fits to the measurements of one shape, by `attention_key`.
    """

    design: str
    shared: CorrectedPhysics
    own: Mapping[str, CorrectedPhysics] = field(default_factory=dict)

    def predict(self, gpu: Gpu, cases: AttentionCases) -> Floats:
        """Return the seconds of each case: float64[n]."""
        fit = self.own.get(attention_key(cases.attention), self.shared)
        return fit.predict(*DESIGNS[self.design](gpu, cases))

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "AttentionFit":
        """Build from what `plain_json` returned."""
        choice("the design of attention", plain["design"], DESIGNS)
        own = {key: CorrectedPhysics.from_json(fit) for key, fit in plain["own"].items()}
        return cls(plain["design"], CorrectedPhysics.from_json(plain["shared"]), own)


@dataclass(frozen=True)
class AttentionFits:
    """Times of attention over keys and values of one format.

    Attributes:
        prefill: Fit of prefill chunks.
        decode: Fit of decodes.
        one_kernel: Whether the chunks and decodes of a batch run in one kernel, and so share its launch.
    """

    prefill: AttentionFit
    decode: AttentionFit
    one_kernel: bool = False

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "AttentionFits":
        """Build from what `plain_json` returned."""
        flag("one_kernel", plain["one_kernel"])
        prefill, decode = (AttentionFit.from_json(plain[phase]) for phase in ("prefill", "decode"))
        return cls(prefill, decode, plain["one_kernel"])


@dataclass(frozen=True)
class ExpertsFit:
    """Times of experts in one number format.

    Attributes:
        shared: Fit to all measured shapes.
    """

    shared: CorrectedPhysics

    def predict(self, gpu: Gpu, cases: ExpertCases) -> Floats:
        """Return the seconds of each case: float64[n]."""
        return self.shared.predict(*experts_inputs(gpu, cases))

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "ExpertsFit":
        """Build from what `plain_json` returned."""
        return cls(CorrectedPhysics.from_json(plain["shared"]))


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
