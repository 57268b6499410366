"""Iteration time from first principles: each operator is bound by compute or by memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from simulator.batch import Batch
from simulator.hardware import Device
from simulator.iteration_time.base import StageTimes, require_seconds
from simulator.model import BYTES_PER_VALUE, Model, stage_layers
from simulator.parallelism import Parallelism


@dataclass(frozen=True)
class Roofline:
    """Each operator takes max(FLOPs / rate, bytes / bandwidth) and at least as long as the shortest kernel.

    Rates are peaks times the share that kernels attain (`Device.attained`), so this is a roofline
    through measured points and not a fit; it knows no tile or wave quantisation. To the kernels come
    the collectives and, per iteration, the host: scheduling, preparing inputs, sampling and processing
    outputs, which this generation of engines does not overlap with the GPU.

    Attributes:
        host_base_s: Host time of an iteration.
        host_per_seq_s: Host time per sequence in the batch.
        host_tp_s: Host time of an iteration that more than one GPU takes part in.

    Source: Williams et al., CACM 2009; T = max(T_math, T_mem) as in arXiv:2403.02310, section 3.1.
    """

    host_base_s: float = 0.0008
    host_per_seq_s: float = 0.000043
    host_tp_s: float = 0.0063

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_seconds(self, "host_base_s", "host_per_seq_s", "host_tp_s")

    def for_layout(self, model: Model, device: Device, parallel: Parallelism) -> StageTimes:
        """Prepare the prediction for one model on one layout.

        Raises:
            ValueError: The model cannot be spread like this.
        """
        return RooflineTimes(self, model, device, parallel)


class RooflineTimes:
    """The roofline of one model on one layout: look-ups by tokens and by sequences, and attention."""

    def __init__(self, roofline: Roofline, model: Model, device: Device, parallel: Parallelism) -> None:
        self._roofline = roofline
        self._hidden_bytes = model.hidden_size * BYTES_PER_VALUE
        self._num_gpus = parallel.num_gpus
        self._send_link = device.link(parallel.num_gpus)
        self._kernels = Kernels(model, device, parallel.tp)
        self._layers = stage_layers(model, parallel)
        self._by_tokens = [Lookup(partial(self._token_time, stage)) for stage in range(parallel.pp)]
        self._by_sequences = [Lookup(partial(self._sequence_time, stage)) for stage in range(parallel.pp)]

    def __call__(self, batch: Batch) -> Sequence[float]:
        """Seconds that each pipeline stage is busy with the batch, first stage first."""
        kernels, layers, chunks, num_decodes = self._kernels, self._layers, batch.chunks, batch.num_decodes
        layer_s = kernels.decode_attention_s * batch.decode_context_tokens + (kernels.kernel_s if num_decodes else 0.0)
        for chunk in chunks:
            layer_s += kernels.chunk_attention_time(chunk.num_tokens, chunk.context_tokens)
        num_tokens = batch.num_prefill_tokens + num_decodes
        num_seqs = num_decodes + len(chunks)
        if len(layers) == 1:
            return (self._by_tokens[0][num_tokens] + self._by_sequences[0][num_seqs] + layers[0] * layer_s,)
        parts = zip(self._by_tokens, self._by_sequences, layers, strict=True)
        return [tokens[num_tokens] + sequences[num_seqs] + count * layer_s for tokens, sequences, count in parts]

    def _token_time(self, stage: int, num_tokens: int) -> float:
        """Time of a stage that follows from the number of tokens."""
        total_s = self._layers[stage] * self._kernels.linear_time(num_tokens)
        if stage == 0:
            total_s += self._kernels.embedding_time(num_tokens)
        if stage < len(self._layers) - 1:
            total_s += self._send_link.send_time(num_tokens * self._hidden_bytes)
        return total_s

    def _sequence_time(self, stage: int, num_seqs: int) -> float:
        """Time of a stage that follows from the number of sequences."""
        roofline = self._roofline
        total_s = roofline.host_base_s + roofline.host_per_seq_s * num_seqs
        if self._num_gpus > 1:
            total_s += roofline.host_tp_s
        if stage == len(self._layers) - 1:
            total_s += self._kernels.head_time(num_seqs)
        return total_s


class Lookup(dict[int, float]):
    """A function of a whole number, computed where it is looked up first."""

    def __init__(self, function: Callable[[int], float]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, number: int) -> float:
        """Compute a value and keep it."""
        value = self[number] = self._function(number)
        return value


class Kernels:
    """Kernel times of one GPU for a model and a tensor-parallel degree, in seconds.

    Attributes:
        kernel_s: Time of the shortest kernels; each kernel takes at least so long.
        decode_attention_s: Decode attention of one layer per token in the KV cache: it is memory-bound and
            reads every cached key and value once.
    """

    def __init__(self, model: Model, device: Device, tp: int) -> None:
        attained = device.attained
        self._model = model
        self._tp = tp
        self._link = device.link(tp)
        self.kernel_s = attained.kernel_us * 1e-6
        self._flop_per_s = device.peak_tflops * 1e12 * attained.compute
        self._byte_per_s = device.bandwidth_gb_per_s * 1e9 * attained.bandwidth
        self._q_width = model.num_q_heads // tp * model.head_dim
        # Seconds per product of a query with a key and a value.
        attention_byte_per_s = device.bandwidth_gb_per_s * 1e9 * attained.decode_attention
        self.decode_attention_s = model.kv_bytes_per_token(tp) / attention_byte_per_s
        self._product_s = 4.0 * self._q_width / (device.peak_tflops * 1e12 * attained.prefill_attention)

    def matmul_time(self, m: int, k: float, n: float) -> float:
        """Time of an (m, k) x (k, n) product."""
        compute_s = 2.0 * m * k * n / self._flop_per_s
        memory_s = BYTES_PER_VALUE * (m * k + k * n + m * n) / self._byte_per_s
        return self.kernel_s + max(compute_s, memory_s)

    def elementwise_time(self, num_values: float) -> float:
        """Time to read and write so many values."""
        return self.kernel_s + 2 * BYTES_PER_VALUE * num_values / self._byte_per_s

    def linear_time(self, num_tokens: int) -> float:
        """Time of everything in a layer but attention: projections, norms, rope, MLP, adds, all-reduces."""
        model, tp = self._model, self._tp
        kv_width = 2 * model.kv_heads_per_gpu(tp) * model.head_dim
        ffn = model.ffn_size / tp
        gates = 2 if model.gated_mlp else 1
        projections = (
            self.matmul_time(num_tokens, model.hidden_size, self._q_width + kv_width)
            + self.matmul_time(num_tokens, self._q_width, model.hidden_size)
            + self.matmul_time(num_tokens, model.hidden_size, gates * ffn)
            + self.matmul_time(num_tokens, ffn, model.hidden_size)
        )
        hidden = num_tokens * model.hidden_size
        num_joints = 1 if model.parallel_attention else 2
        norms_and_adds = 2 * num_joints * self.elementwise_time(hidden)
        rope_and_cache = self.elementwise_time(num_tokens * self._q_width) + self.elementwise_time(
            num_tokens * kv_width
        )
        activation = self.elementwise_time(num_tokens * gates * ffn)
        reduces = num_joints * self._link.all_reduce_time(hidden * BYTES_PER_VALUE, tp) if tp > 1 else 0.0
        return projections + norms_and_adds + rope_and_cache + activation + reduces

    def chunk_attention_time(self, num_tokens: int, context_tokens: int) -> float:
        """Time of a chunk's attention in one layer: causal within the chunk, full over its context."""
        compute_s = self._product_s * num_tokens * (context_tokens + (num_tokens + 1) / 2)
        memory_s = self.decode_attention_s * (context_tokens + num_tokens)
        return self.kernel_s + (compute_s if compute_s > memory_s else memory_s)

    def embedding_time(self, num_tokens: int) -> float:
        """Time to look up the input embeddings."""
        return self.elementwise_time(num_tokens * self._model.hidden_size)

    def head_time(self, num_seqs: int) -> float:
        """Time of the LM head, for the last token of each sequence, and of gathering its logits."""
        model = self._model
        vocab = model.vocab_size / self._tp
        head_s = self.matmul_time(num_seqs, model.hidden_size, vocab)
        if self._tp > 1:
            head_s += self._link.send_time(num_seqs * vocab * BYTES_PER_VALUE)
        return head_s
