"""Lookup tables of fitted attention times, for the hot loop."""

from array import array
from collections.abc import Sequence
from functools import cache
from math import inf

import numpy as np

from simulator.iteration_time.attention import AttentionTimes
from simulator.iteration_time.attention_inputs import AttentionCases
from simulator.iteration_time.device_profile import HALF_FORMAT, DeviceProfile
from simulator.iteration_time.operators import Attention
from simulator.replica import PrefillChunk


def _knots(first: float, last: float, per_octave: int) -> list[float]:
    """Return integers from `first` to `last`, spaced geometrically."""
    exponents = np.arange(np.log2(first), np.log2(last) + 1e-9, 1 / per_octave)
    return sorted({*np.round(2.0**exponents).tolist()})


# Time is interpolated linearly between knots and extrapolated linearly beyond the last one.
_CONTEXT_PER_DECODE = _knots(16, 1 << 17, 4)
_CHUNKS: list[float] = [1, 2, 4, *range(8, 512, 8), *range(512, 4096, 64), *_knots(4096, 1 << 17, 8)]
_CONTEXTS = [0.0, *_knots(32, 1 << 17, 4)]
_LAST = 1 << 17  # the last knot of each


@cache
def _places() -> "tuple[array[int], array[int], array[int]]":
    """Return the place of each integer among the knots.

    It is the number of knots that are at most 0, 1, 2, ..., up to the last one, for the three kinds of knots. At least
    1 and less than all, so that there is a knot on either side.
    """
    places = []
    for knots in (_CONTEXT_PER_DECODE, _CHUNKS, _CONTEXTS):
        lengths = np.diff([0.0, *knots, _LAST + 1.0]).astype(int)
        counts = np.clip(np.repeat(np.arange(len(knots) + 1), lengths), 1, len(knots) - 1)
        places.append(array("h", counts.astype(np.int16).tobytes()))
    return places[0], places[1], places[2]


class AttentionTable(AttentionTimes):
    """Attention times of one shape, tabulated from a device's regressions.

    Rows are computed on first use: one per number of decodes, and one per number of chunks and chunk knot. The number
    format of the multiplications is that of the KV cache where its kernels were measured, else half precision.
    """

    def __init__(self, profile: DeviceProfile, attention: Attention) -> None:
        self._context_per_decode_places, self._chunk_places, self._context_places = _places()
        self._context_per_decode = array("d", _CONTEXT_PER_DECODE)
        self._chunks, self._contexts = array("d", _CHUNKS), array("d", _CONTEXTS)
        super().__init__(attention.kv_dtype if attention.kv_dtype in profile.attention else HALF_FORMAT)
        self._gpu = profile.gpu
        self._in_engine = profile.in_engine
        self._attention = attention
        fits = profile.attention[self.compute_dtype]
        self._decode, self._prefill = fits.decode, fits.prefill
        bandwidth = profile.gpu.bandwidth_gb_per_s * 1e9 * profile.most_bandwidth
        gpu = profile.gpu
        self._flop_per_s = gpu.format_tflops.get(self.compute_dtype, gpu.peak_tflops) * 1e12
        self._min_per_token_s = attention.kv_bytes_per_token / bandwidth
        self._decode_rows: dict[int, list[float]] = {}
        self._prefill_rows: dict[int, list[float]] = {}
        # Linear piece of the last lookup: number of decodes, (low, high] in context tokens, intercept and slope.
        self._num_decodes = 0
        self._low_tokens, self._high_tokens, self._intercept_s, self._slope_s = 0.0, 0.0, 0.0, 0.0
        self._one_kernel = fits.one_kernel
        self._launch_s = self._decode_row(1)[0]

    def decode_time(self, num_decodes: int, context_tokens: int) -> float:
        """Return the time of decodes in seconds; `context_tokens` is summed over them."""
        if num_decodes != self._num_decodes or not self._low_tokens < context_tokens <= self._high_tokens:
            self._select_piece(num_decodes, context_tokens)
        return self._intercept_s + self._slope_s * context_tokens

    def add_prefills(self, seconds: float, chunks: Sequence[PrefillChunk], beside_decodes: bool) -> float:
        """Return `seconds` plus those of each kernel, see `AttentionTimes`.

        One kernel computes several chunks like as many equal ones with the same tokens and query-key pairs. Beside
        decodes it takes its launch less, about the time of one short decode.
        """
        if not self._one_kernel:
            for chunk in chunks:
                seconds += self._equal_chunks_time(1, chunk.num_tokens, chunk.context_tokens)
            return seconds
        joint_s = self._joint_time(chunks)
        return seconds + (max(0.0, joint_s - self._launch_s) if beside_decodes else joint_s)

    def _joint_time(self, chunks: Sequence[PrefillChunk]) -> float:
        num_chunks, num_tokens, num_pairs = len(chunks), 0, 0.0
        for chunk in chunks:
            num_tokens += chunk.num_tokens
            num_pairs += chunk.num_tokens * (chunk.context_tokens + (chunk.num_tokens + 1) / 2)
        mean_tokens = num_tokens / num_chunks
        context = num_pairs / num_tokens - (mean_tokens + 1) / 2
        return self._equal_chunks_time(num_chunks, mean_tokens, max(0.0, context))

    def _equal_chunks_time(self, num_chunks: int, chunk: float, context: float) -> float:
        row = self._chunk_places[min(int(chunk), _LAST)]
        column = self._context_places[min(int(context), _LAST)]
        lower, upper = self._prefill_row(num_chunks, row - 1), self._prefill_row(num_chunks, row)
        before, after = self._contexts[column - 1], self._contexts[column]
        share = (context - before) / (after - before)
        lower_s = lower[column - 1] + (lower[column] - lower[column - 1]) * share
        upper_s = upper[column - 1] + (upper[column] - upper[column - 1]) * share
        small, large = self._chunks[row - 1], self._chunks[row]
        return lower_s + (upper_s - lower_s) * (chunk - small) / (large - small)

    def _select_piece(self, num_decodes: int, context_tokens: int) -> None:
        """Select the linear piece around a point.

        The next iterations mostly stay on it.
        """
        row = self._decode_rows.get(num_decodes)
        if row is None:
            row = self._decode_rows[num_decodes] = self._decode_row(num_decodes)
        knots = self._context_per_decode
        index = self._context_per_decode_places[min(max(context_tokens - 1, 0) // num_decodes, _LAST)]
        low, high = knots[index - 1] * num_decodes, knots[index] * num_decodes
        self._num_decodes = num_decodes
        self._slope_s = (row[index] - row[index - 1]) / (high - low)
        self._intercept_s = row[index] - self._slope_s * high
        self._low_tokens = low if index > 1 else -inf
        self._high_tokens = high if index < len(knots) - 1 else inf

    def _decode_row(self, num_decodes: int) -> list[float]:
        """Return the seconds at each knot of the context per decode."""
        context, ones = np.array(_CONTEXT_PER_DECODE), np.ones(len(_CONTEXT_PER_DECODE))
        cases = AttentionCases(self._attention, num_decodes * ones, ones, context)
        fitted_s = self._in_engine.decode_attention * self._decode.predict(self._gpu, cases)
        return [float(seconds) for seconds in np.maximum(fitted_s, self._min_per_token_s * num_decodes * context)]

    def _prefill_row(self, num_chunks: int, row: int) -> list[float]:
        """Return the seconds at each context knot, for one chunk knot."""
        number = num_chunks * len(self._chunks) + row
        times = self._prefill_rows.get(number)
        if times is None:
            context, ones = np.array(_CONTEXTS), np.ones(len(_CONTEXTS))
            cases = AttentionCases(self._attention, num_chunks * ones, _CHUNKS[row] * ones, context)
            fitted_s = self._in_engine.prefill_attention * self._prefill.predict(self._gpu, cases)
            least_s = num_chunks * self._attention.prefill_flops(_CHUNKS[row], context) / self._flop_per_s
            times = [float(seconds) for seconds in np.maximum(fitted_s, least_s)]
            self._prefill_rows[number] = times
        return times
