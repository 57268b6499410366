"""Iteration time composed of kernels, collectives and host overhead."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np

from simulator.iteration_time.attention import AttentionTimes, UngroupedDecode
from simulator.iteration_time.base import OperatorTime, StageTimes
from simulator.iteration_time.collectives import Collectives
from simulator.iteration_time.kernels import Floats, Kernels
from simulator.iteration_time.lookup import Lookup
from simulator.iteration_time.operators import (
    Elementwise,
    Experts,
    MatMul,
    Operator,
    attention_of,
    embedding,
    head_operators,
    layer_operators,
    num_all_reduces,
)
from simulator.iteration_time.provenance import HostPart
from simulator.model import HALF_BYTES, EngineOverhead, Layout
from simulator.replica import Batch


class ComposedTimes(StageTimes):
    """Stage times of one layout, composed of the times of its operators.

    Attention is computed for each batch; the rest is looked up by number of tokens and of sequences.
    """

    def __init__(self, kernels: Kernels, layout: Layout, engine: EngineOverhead) -> None:
        model, parallel = layout.model, layout.parallel
        self._kernels = kernels
        self._model = model
        self._parallel = parallel
        self._collectives = Collectives(layout, engine)
        self._fused = engine.fused_operators
        self._sampler = engine.sampler
        host = engine.host_time(layout.device)
        self._base_s, self._per_seq_s = host.line(parallel.num_gpus)
        self._layers = layout.stage_layers
        self._launches = [layers * host.launch_per_layer_s for layers in self._layers]
        self._graph_launches = [host.launch_graph_s] * parallel.pp
        self._piece_launches = [layers * host.launch_pieces_per_layer_s for layers in self._layers]
        # By number of tokens: the CUDA graph size that a batch is padded to, without prefill and with it.
        self._padded = padded_sizes(engine.decode_graph_sizes)
        self._padded_mixed = self._padded if engine.mixed_graphs else []
        self._attention_shape = attention_of(model, parallel.tp, layout.kv_dtype)
        self._attention: AttentionTimes = kernels.attention_times(self._attention_shape)
        if not engine.grouped_decode:
            self._attention = UngroupedDecode(self._attention, self._attention_shape, layout.device)
        self._linear = Lookup(self._linear_time)
        self._entries = [Lookup(partial(self._entry_time, stage)) for stage in range(parallel.pp)]
        self._heads = [Lookup(partial(self._head_time, stage)) for stage in range(parallel.pp)]
        self._sends = [Lookup(partial(self._send_time, stage)) for stage in range(parallel.pp - 1)]
        # Sizes of the latest batch of the only stage, and what depends on them.
        self._num_decodes, self._num_prefill_tokens, self._num_chunks = -1, 0, 0
        self._num_layers = self._layers[0]
        self._linear_s, self._entry_s, self._head_s, self._host_s, self._launch_s = 0.0, 0.0, 0.0, 0.0, 0.0
        operators = [
            embedding(model, parallel.tp),
            *chain(*layer_operators(model, parallel.tp, fused=self._fused)),
            *head_operators(model, parallel.tp, fused=self._fused),
        ]
        warnings = [*kernels.warnings_for(layout, operators), *self._collectives.warnings]
        source = ", ".join([kernels.provenance.source, *self._collectives.sources])
        host_part = HostPart(self._base_s, self._per_seq_s, self._launches)
        super().__init__(None, replace(kernels.provenance, source=source, warnings=warnings, host=host_part))

    @property
    def has_operators(self) -> bool:
        """Whether the times are composed of operators."""
        return True

    def of_batch(self, batch: Batch) -> Sequence[float]:
        """Return the seconds of each stage and each send, see `StageTimes`."""
        if len(self._layers) == 1:
            return (self.of_single_stage(batch),)
        num_tokens, num_rows, launches = self._padded_batch(batch)
        times: list[float] = []
        layer_s, host_s = self._layer_time(batch, num_tokens), self._host_time(batch)
        for stage, layers in enumerate(self._layers):
            gpu_s = layers * layer_s + self._entries[stage].at(num_tokens) + self._heads[stage].at(num_rows)
            times.append(host_s + (gpu_s if gpu_s > launches[stage] else launches[stage]))
            if stage < len(self._sends):
                times.append(self._sends[stage].at(num_tokens))
        return times

    def of_single_stage(self, batch: Batch) -> float:
        """Return the seconds of the only stage."""
        num_decodes = batch.num_decodes
        if (
            num_decodes != self._num_decodes
            or batch.num_prefill_tokens != self._num_prefill_tokens
            or len(batch.chunks) != self._num_chunks
        ):
            self._look_up(batch)
        layer_s = self._linear_s
        if num_decodes:
            layer_s += self._attention.decode_time(num_decodes, batch.decode_context_tokens)
        if self._num_chunks:
            layer_s = self._attention.add_prefills(layer_s, batch.chunks, num_decodes > 0)
        gpu_s = self._num_layers * layer_s + self._entry_s + self._head_s
        return self._host_s + (gpu_s if gpu_s > self._launch_s else self._launch_s)

    def _look_up(self, batch: Batch) -> None:
        """Look up what depends only on the batch's sizes.

        Repeats keep them.
        """
        self._num_decodes, self._num_prefill_tokens = batch.num_decodes, batch.num_prefill_tokens
        self._num_chunks = len(batch.chunks)
        num_tokens, num_rows, launches = self._padded_batch(batch)
        self._linear_s = self._linear.at(num_tokens)
        self._entry_s = self._entries[0].at(num_tokens)
        self._head_s = self._heads[0].at(num_rows)
        self._launch_s = launches[0]
        self._host_s = self._host_time(batch)

    def _host_time(self, batch: Batch) -> float:
        return self._base_s + self._per_seq_s * (batch.num_decodes + len(batch.chunks))

    def _layer_time(self, batch: Batch, num_tokens: int) -> float:
        """Return the seconds of one layer."""
        layer_s, num_decodes = self._linear.at(num_tokens), batch.num_decodes
        if num_decodes:
            layer_s += self._attention.decode_time(num_decodes, batch.decode_context_tokens)
        if batch.chunks:
            layer_s = self._attention.add_prefills(layer_s, batch.chunks, num_decodes > 0)
        return layer_s

    def operators(self, batch: Batch, stage: int) -> Iterator[OperatorTime]:
        """Yield the operators of a stage, host overhead and send included.

        An operator that runs twice in a layer is yielded twice.
        """
        num_tokens, num_rows, launches = self._padded_batch(batch)
        gpu_s = 0.0
        for operator in self._gpu_operators(batch, stage, num_tokens, num_rows):
            gpu_s += operator.seconds_per_layer * operator.layers
            yield operator
        if gpu_s < launches[stage]:
            yield OperatorTime("wait_for_launches", "host", launches[stage] - gpu_s, 1)
        yield OperatorTime("host", "host", self._host_time(batch), 1)
        if stage < self._parallel.pp - 1:
            yield OperatorTime("send", "network", self._sends[stage].at(num_tokens), 1)

    def _padded_batch(self, batch: Batch) -> tuple[int, int, Sequence[float]]:
        """Return the computed tokens, rows of the head, and launch times."""
        num_tokens, num_rows = batch.num_prefill_tokens + batch.num_decodes, batch.num_decodes + len(batch.chunks)
        if batch.chunks and num_tokens < len(self._padded_mixed):
            return self._padded_mixed[num_tokens], num_rows, self._piece_launches
        if batch.chunks or num_tokens >= len(self._padded):
            return num_tokens, num_rows, self._launches
        return self._padded[num_tokens], self._padded[num_tokens], self._graph_launches

    def _gpu_operators(self, batch: Batch, stage: int, num_tokens: int, num_rows: int) -> Iterator[OperatorTime]:
        """Yield the kernels and collectives of a stage on one GPU."""
        layers, parallel, model = self._layers[stage], self._parallel, self._model
        if stage == 0:
            yield self._operator_time(embedding(model, parallel.tp), num_tokens, 1)
        elif parallel.sliced_sends:
            yield OperatorTime("gather_slices", "network", self._entries[stage].at(num_tokens), 1)
        before, after = layer_operators(model, parallel.tp, fused=self._fused)
        for operator in before:
            yield self._operator_time(operator, num_tokens, layers)
        yield from self._attention_operators(batch, layers)
        for operator in after:
            yield self._operator_time(operator, num_tokens, layers)
        if parallel.tp > 1:
            reduce_s = float(self._all_reduce_time(np.array([float(num_tokens)]))[0])
            yield OperatorTime("all_reduce", "network", num_all_reduces(model) * reduce_s, layers)
        if stage == parallel.pp - 1:
            for operator in head_operators(model, parallel.tp, fused=self._fused):
                yield self._operator_time(operator, num_rows, 1)
            sampler_s = float(self._sampler_time(np.array([float(num_rows)]))[0])
            if sampler_s:
                yield OperatorTime("filter_and_draw", "kernel", sampler_s, 1)
            if parallel.tp > 1:
                seconds = float(self._gather_time(np.array([float(num_rows)]))[0])
                yield OperatorTime("gather_logits", "network", seconds, 1)

    def _attention_operators(self, batch: Batch, layers: int) -> Iterator[OperatorTime]:
        attention = self._attention_shape
        if batch.chunks:
            sizes = [(chunk.num_tokens, chunk.context_tokens) for chunk in batch.chunks]
            yield OperatorTime(
                "prefill_attention",
                "kernel",
                self._attention.add_prefills(0.0, batch.chunks, batch.num_decodes > 0),
                layers,
                sum(attention.prefill_flops(*size) for size in sizes),
                sum(attention.prefill_bytes(*size) for size in sizes),
                self._attention.compute_dtype,
            )
        if batch.num_decodes:
            context_tokens = batch.decode_context_tokens
            yield OperatorTime(
                "decode_attention",
                "kernel",
                self._attention.decode_time(batch.num_decodes, context_tokens),
                layers,
                attention.decode_flops(context_tokens),
                attention.decode_bytes(context_tokens),
                self._attention.compute_dtype,
            )

    def _operator_time(self, operator: Operator, tokens: int, layers: int) -> OperatorTime:
        seconds = float(self._kernel_time(operator, np.array([float(tokens)]))[0])
        work = operator.flops(tokens), operator.bytes_moved(tokens)
        return OperatorTime(operator.name, "kernel", seconds, layers, *work, operator.compute_dtype)

    def _kernel_time(self, operator: Operator, tokens: Floats) -> Floats:
        kernels = self._kernels
        match operator:
            case MatMul():
                return kernels.matmul_time(operator, tokens)
            case Experts():
                return kernels.experts_time(operator, tokens)
            case Elementwise():
                return kernels.elementwise_time(operator, tokens)

    def _linear_time(self, tokens: Floats) -> Floats:
        """Return the seconds of one layer without attention, collectives included."""
        model, tp = self._model, self._parallel.tp
        total_s = np.zeros_like(tokens)
        for operator in chain(*layer_operators(model, tp, fused=self._fused)):
            total_s += self._kernel_time(operator, tokens)
        return total_s + num_all_reduces(model) * self._all_reduce_time(tokens) if tp > 1 else total_s

    def _entry_time(self, stage: int, tokens: Floats) -> Floats:
        """Return the seconds of a stage before its layers.

        The embedding in the first stage; in the others, the all-gather of a sliced send.
        """
        if stage == 0:
            return self._kernel_time(embedding(self._model, self._parallel.tp), tokens)
        if self._parallel.sliced_sends:
            return self._collectives.all_gather_time(tokens * (self._model.hidden_size * HALF_BYTES))
        return np.zeros_like(tokens)

    def _head_time(self, stage: int, seqs: Floats) -> Floats:
        """Return the seconds of a stage after its layers.

        Only the last stage has a head, which runs on one row per sequence.
        """
        total_s = np.zeros_like(seqs)
        if stage == len(self._layers) - 1:
            for operator in head_operators(self._model, self._parallel.tp, fused=self._fused):
                total_s = total_s + self._kernel_time(operator, seqs)
            total_s = total_s + self._sampler_time(seqs)
            if self._parallel.tp > 1:
                total_s = total_s + self._gather_time(seqs)
        return total_s

    def _sampler_time(self, seqs: Floats) -> Floats:
        return self._sampler.base_s + self._sampler.per_logit_s * self._model.vocab_size * seqs

    def _all_reduce_time(self, tokens: Floats) -> Floats:
        return self._collectives.all_reduce_time(tokens * (self._model.hidden_size * HALF_BYTES))

    def _send_time(self, stage: int, tokens: Floats) -> Floats:
        return self._collectives.send_time(stage, tokens * (self._model.hidden_size * HALF_BYTES))

    def _gather_time(self, seqs: Floats) -> Floats:
        """Return the seconds to all-gather the logits in the last stage."""
        return self._collectives.all_gather_time(seqs * (self._model.vocab_size * HALF_BYTES))


def padded_sizes(sizes: Sequence[int]) -> list[int]:
    """Return the smallest fitting CUDA graph size by number of decodes.

    The list covers 0 decodes to the largest size.
    """
    padded: list[int] = []
    for size in sizes:
        padded += [size] * (size + 1 - len(padded))
    return padded
