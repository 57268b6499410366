"""Fitted attention as tables that an iteration looks up in a few operations."""

from bisect import bisect_left, bisect_right
from math import inf

import numpy as np

from simulator.iteration_time.device_profile import DeviceProfile, attention_key
from simulator.iteration_time.kernels import Floats
from simulator.iteration_time.operators import Attention
from simulator.iteration_time.physics import (
    decode_features,
    decode_terms,
    prefill_features,
    prefill_terms,
)


def _knots(first: float, last: float, per_octave: int) -> list[float]:
    """Whole numbers that grow by a constant factor."""
    exponents = np.arange(np.log2(first), np.log2(last) + 1e-9, 1 / per_octave)
    return [float(one) for one in np.unique(np.round(2.0**exponents))]


# Between knots time is a straight line; beyond the last one the line goes on.
_CONTEXT_PER_DECODE = _knots(16, 1 << 17, 4)
_CHUNKS: list[float] = [1, 2, 4, *range(8, 512, 8), *range(512, 4096, 64), *_knots(4096, 1 << 17, 8)]
_CONTEXTS = [0.0, *_knots(32, 1 << 17, 4)]


class AttentionTable:
    """Attention of one layer for one shape, from the regressions of a device.

    Rows of the tables are computed when they are first needed: one for each number of decodes, and one for
    each chunk knot.
    """

    def __init__(self, profile: DeviceProfile, attention: Attention) -> None:
        self._gpu = profile.gpu
        self._in_engine = profile.in_engine
        self._attention = attention
        key = attention_key(attention)
        self._decode = profile.decode.own.get(key, profile.decode.transfer)
        self._prefill = profile.prefill.own.get(key, profile.prefill.transfer)
        bandwidth = profile.gpu.bandwidth_gb_per_s * 1e9 * profile.most_bandwidth
        self._least_per_token_s = attention.kv_bytes_per_token / bandwidth
        self._decode_rows: dict[int, list[float]] = {}
        self._prefill_rows: dict[int, list[float]] = {}
        # The line that the last number of decodes is on, and where it holds.
        self._num_decodes = 0
        self._holds_above, self._holds_to, self._start_s, self._slope_s = 0.0, 0.0, 0.0, 0.0

    def decode_time(self, num_decodes: int, context_tokens: int) -> float:
        """Seconds of decodes; `context_tokens` in the KV cache, summed over them."""
        if num_decodes != self._num_decodes or not self._holds_above < context_tokens <= self._holds_to:
            self._find_line(num_decodes, context_tokens / num_decodes)
        return self._start_s + self._slope_s * context_tokens

    def prefill_time(self, chunk: int, context: int) -> float:
        """Seconds of a prefill chunk with so many tokens before it in the KV cache."""
        row = min(bisect_right(_CHUNKS, chunk), len(_CHUNKS) - 1)
        column = min(bisect_right(_CONTEXTS, context), len(_CONTEXTS) - 1)
        less, more = self._prefill_row(row - 1), self._prefill_row(row)
        before, after = _CONTEXTS[column - 1], _CONTEXTS[column]
        share = (context - before) / (after - before)
        less_s = less[column - 1] + (less[column] - less[column - 1]) * share
        more_s = more[column - 1] + (more[column] - more[column - 1]) * share
        small, large = _CHUNKS[row - 1], _CHUNKS[row]
        return less_s + (more_s - less_s) * (chunk - small) / (large - small)

    def _find_line(self, num_decodes: int, context: float) -> None:
        """Make the line around a point the current one; the iterations that follow are mostly on it."""
        row = self._decode_rows.get(num_decodes)
        if row is None:
            row = self._decode_rows[num_decodes] = self._decode_row(num_decodes)
        knots = _CONTEXT_PER_DECODE
        place = min(max(bisect_left(knots, context), 1), len(knots) - 1)
        low, high = knots[place - 1] * num_decodes, knots[place] * num_decodes
        self._num_decodes = num_decodes
        self._slope_s = (row[place] - row[place - 1]) / (high - low)
        self._start_s = row[place] - self._slope_s * high
        self._holds_above = low if place > 1 else -inf
        self._holds_to = high if place < len(knots) - 1 else inf

    def _decode_row(self, num_decodes: int) -> list[float]:
        """Seconds at each context per decode."""
        context = np.array(_CONTEXT_PER_DECODE)
        at = self._gpu, self._attention, np.full(len(context), float(num_decodes)), context
        seconds = self._in_engine.decode_attention * self._decode.predict(decode_terms(*at), decode_features(*at))
        return [float(one) for one in np.maximum(seconds, self._least_per_token_s * num_decodes * context)]

    def _prefill_row(self, row: int) -> list[float]:
        """Seconds at each context, for one chunk knot."""
        seconds = self._prefill_rows.get(row)
        if seconds is None:
            context: Floats = np.array(_CONTEXTS)
            at = self._gpu, self._attention, np.full(len(context), _CHUNKS[row]), context
            alone = self._prefill.predict(prefill_terms(*at), prefill_features(*at))
            seconds = [float(one) for one in self._in_engine.prefill_attention * alone]
            self._prefill_rows[row] = seconds
        return seconds
