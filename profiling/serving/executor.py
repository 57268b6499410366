"""Executes iterations on a device and times their parts."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiling.device.environment import CPU, CUDA
from profiling.serving.attention import AttentionShape, Span, attention_maker
from profiling.serving.decoder import Decoder
from profiling.serving.graphs import DecodeGraphs
from profiling.serving.inputs import InputMaker, Tokens, Work
from profiling.serving.operators import operators_on
from simulator.model import Model


@dataclass(frozen=True)
class ExecutionTimes:
    """Parts of an iteration, in seconds.

    Attributes:
        prepare_s: Making and copying inputs, planning attention.
        launch_s: Host time of kernel launches; on a CPU, of the computation.
        device_s: From the first launch to the end of the last kernel, by the clock of the device.
    """

    prepare_s: float
    launch_s: float
    device_s: float


class Executor:
    """A decoder on a device.

    Attributes:
        kernel_library: Names and versions of the kernel libraries.
    """

    def __init__(
        self,
        torch: Any,
        flashinfer: Any,
        model: Model,
        device: str,
        num_blocks: int,
        block_size: int,
        graph_sizes: Sequence[int],
        clock: Callable[[], float],
    ) -> None:
        """Draw weights, reserve the KV cache and capture CUDA graphs.

        Args:
            torch: The module.
            flashinfer: The module; None: attention through torch.
            model: The architecture.
            device: CUDA or CPU.
            num_blocks: KV blocks.
            block_size: Tokens per KV block.
            graph_sizes: Batch sizes of decodes to capture as CUDA graphs, increasing; empty: none.
            clock: Monotonic clock, seconds.

        Raises:
            ValueError: The decoder does not support this architecture, or graphs cannot be captured.
        """
        if graph_sizes and (device != CUDA or flashinfer is None):
            raise ValueError("engine.decode_graph_sizes: CUDA graphs need a CUDA GPU and FlashInfer")
        self._torch = torch
        self._device = device
        self._clock = clock
        self._block_size = block_size
        operators = operators_on(device, torch, flashinfer)
        shape = AttentionShape(model.num_q_heads, model.num_kv_heads, model.head_dim, block_size)
        self._decoder = Decoder(model, operators, device, num_blocks, block_size)
        self._attention = attention_maker(torch, flashinfer, device)(shape)
        self._inputs = InputMaker(torch, device, block_size, padding_block=num_blocks)
        self._graphs: DecodeGraphs | None = None
        if graph_sizes:
            padding_block = np.array([num_blocks], dtype=np.int32)
            self._graphs = DecodeGraphs(self._decoder, flashinfer, shape, graph_sizes, padding_block, num_blocks)
        self.kernel_library = f"{operators.kernel_library}, attention: {self._attention.kernel_library}"

    def warm_up(self, token_counts: Iterable[int]) -> None:
        """Compute a prompt of each length.

        Libraries prepare each shape on first use.
        """
        for count in token_counts:
            blocks = np.arange(-(-count // self._block_size), dtype=np.int32)
            self.execute(Work([0], [Span(blocks, count, 0)], []), [np.zeros(count, dtype=np.int64)])

    def execute(self, work: Work, token_ids: Sequence[Tokens]) -> tuple[NDArray[np.int64], ExecutionTimes]:
        """Compute an iteration.

        Args:
            work: Chunks and decodes to compute.
            token_ids: Prompt and generated tokens of each request; later entries are not read.

        Returns:
            The next token of each chunk and decode, int64[n], and the times of the parts.
        """
        clock = self._clock
        begin_s = clock()
        launch = self._plan(work, token_ids)
        planned_s = clock()
        first, last = self._event(), self._event()
        tokens = launch()
        if last is not None:
            last.record()
        launched_s = clock()
        sampled = tokens.cpu().numpy()[: len(work.requests)]
        device_s = launched_s - planned_s if last is None else first.elapsed_time(last) * 1e-3
        return sampled, ExecutionTimes(planned_s - begin_s, launched_s - planned_s, device_s)

    def _plan(self, work: Work, token_ids: Sequence[Tokens]) -> Callable[[], Any]:
        """Do the host work before the first kernel.

        Returns:
            A function that launches the kernels.
        """
        graphs = self._graphs
        size = None if graphs is None or work.chunks else graphs.size_for(len(work.decodes))
        if graphs is not None and size is not None:
            graphs.plan(size, work.decodes, self._inputs.make(work, token_ids, size - len(work.decodes)))
            return lambda: graphs.launch(size)
        inputs = self._inputs.make(work, token_ids)
        self._attention.plan(work.chunks, work.decodes)
        return lambda: self._decoder.forward(inputs, self._attention)

    def _event(self) -> Any:
        """Return a CUDA event, recorded now; None on a CPU.

        Recording the second of a pair again moves it.
        """
        if self._device == CPU:
            return None
        event = self._torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def prepare_libraries(torch: Any, flashinfer: Any, model: Model) -> None:
    """Compile the kernels of the model, which takes minutes.

    Runs one layer on each kind of batch, the fused norm and the sampler.
    """
    dense = replace(model, dtype="bf16", num_experts=1, experts_per_token=1, parallel_attention=False)
    small = replace(dense, num_layers=1, vocab_size=min(model.vocab_size, 1024), max_model_len=256)
    sizes = (1,) if flashinfer is not None else ()
    executor = Executor(torch, flashinfer, small, CUDA, 64, 16, sizes, time.perf_counter)
    chunk, decode = Span(np.arange(4, dtype=np.int32), 64, 0), Span(np.arange(8, 12, dtype=np.int32), 1, 60)
    token_ids = [np.zeros(64, dtype=np.int64)] * 2
    for work in (Work([0], [chunk], []), Work([0, 1], [chunk], [decode]), Work([1], [], [decode])):
        executor.execute(work, token_ids[: max(work.requests) + 1])
    operators = operators_on(CUDA, torch, flashinfer)
    x, residual = torch.ones(2, 1, model.hidden_size, dtype=torch.bfloat16, device=CUDA)
    operators.add_rms_norm(x, residual, x[0])
    sizes_of_one = torch.ones(1, dtype=torch.int32, device=CUDA), torch.ones(1, dtype=torch.float32, device=CUDA)
    operators.sample_top_k_top_p(x, *sizes_of_one)
