"""Attention times of one layer, looked up in every iteration."""

from collections.abc import Sequence

from simulator.iteration_time.operators import Attention
from simulator.model import Device
from simulator.replica import PrefillChunk


class AttentionTimes:
    """Attention times of one layer; a subclass has them.

    Attributes:
        compute_dtype: Number format of the multiplications, if the device supports it.
    """

    def __init__(self, compute_dtype: str) -> None:
        self.compute_dtype = compute_dtype

    def add_prefills(self, seconds: float, chunks: Sequence[PrefillChunk], beside_decodes: bool) -> float:
        """Return `seconds` plus those of the prefill kernels.

        The chunks run over their contexts, one kernel after another.


        `beside_decodes`: the batch has decodes too, with which one kernel may share its launch.
        """
        raise NotImplementedError

    def decode_time(self, num_decodes: int, context_tokens: int) -> float:
        """Return the time of decodes in seconds.

        `num_decodes` is at least 1; `context_tokens` is summed over the decodes.
        """
        raise NotImplementedError


class UngroupedDecode(AttentionTimes):
    """Attention whose decodes read keys and values once per query head.

    The reads are mostly from the L2 cache. Kernels with one thread block per query head do so, such as the
    PagedAttention kernel of 2023. Decodes take the longer of the HBM reads of a grouped kernel and the L2 reads of all
    query heads.
    """

    def __init__(self, grouped: AttentionTimes, attention: Attention, device: Device) -> None:
        super().__init__(grouped.compute_dtype)
        group = attention.q_heads / attention.kv_heads
        self._reread_s = group * attention.kv_bytes_per_token / (device.attained.l2_gb_per_s * 1e9)
        self._grouped = grouped

    def add_prefills(self, seconds: float, chunks: Sequence[PrefillChunk], beside_decodes: bool) -> float:
        """Return `seconds` plus those of the prefill chunks, see `AttentionTimes`."""
        return self._grouped.add_prefills(seconds, chunks, beside_decodes)

    def decode_time(self, num_decodes: int, context_tokens: int) -> float:
        """Return the time of decodes in seconds, see `AttentionTimes`."""
        grouped_s = self._grouped.decode_time(num_decodes, context_tokens)
        reread_s = self._reread_s * context_tokens
        return grouped_s if grouped_s > reread_s else reread_s


class RooflineAttention(AttentionTimes):
    """Attention times of one layer on a roofline."""

    def __init__(self, kernel_s: float, product_s: float, cached_token_s: float, compute_dtype: str = "bf16") -> None:
        """Take the rates.

        Args:
            kernel_s: Seconds of the shortest kernel.
            product_s: Seconds per query-key pair, over all heads.
            cached_token_s: Seconds to read the keys and values of one token.
            compute_dtype: Number format of the multiplications.
        """
        super().__init__(compute_dtype)
        self._kernel_s = kernel_s
        self._product_s = product_s
        self._cached_token_s = cached_token_s

    def add_prefills(self, seconds: float, chunks: Sequence[PrefillChunk], beside_decodes: bool) -> float:
        """Return `seconds` plus those of each chunk.

        Attention is full over the context and causal within the chunk.
        """
        for chunk in chunks:
            seconds += self._chunk_time(chunk.num_tokens, chunk.context_tokens)
        return seconds

    def decode_time(self, num_decodes: int, context_tokens: int) -> float:
        """Return the time of decodes in seconds.

        They are memory-bound: every cached key and value is read once.
        """
        return self._kernel_s + self._cached_token_s * context_tokens

    def _chunk_time(self, chunk: int, context: int) -> float:
        compute_s = self._product_s * chunk * (context + (chunk + 1) / 2)
        memory_s = self._cached_token_s * (context + chunk)
        return self._kernel_s + (compute_s if compute_s > memory_s else memory_s)
