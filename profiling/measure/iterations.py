"""Measures the serving engine on synthetic batches.

It measures host time by part, and whole iterations.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from profiling.device.environment import CUDA, free_memory
from profiling.measure.cases import Case
from profiling.measure.timing import REPEATS, WARM_UPS, Sample
from profiling.serving.attention import Span
from profiling.serving.executor import Executor
from profiling.serving.inputs import Work
from profiling.serving.loop import Iteration, ServingLoop
from simulator.cluster import ReplicaSpec
from simulator.iteration_time import StageTimes
from simulator.model import Model
from simulator.replica import Batch
from simulator.schedulers import Sarathi
from traces import Trace

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
CHUNKS = (64, 128, 256, 384, 512, 768, 1024, 2048)
CONTEXTS = (256, 1024)
# Decodes in a hybrid batch.
HYBRIDS = (8, 32)
# Context tokens of the decodes in host time measurements; host time hardly depends on it.
CONTEXT = 256
BLOCK_SIZE = 16
SIZES = ("num_prefill_tokens", "prefill_context", "num_decodes", "decode_context")
# Host time that the GPU waits for, and launch time of all layers, one by one or as a graph.
WAITED_FOR = ("schedule", "prepare_inputs", "synchronize", "process_outputs")
LAUNCHED = ("launch_kernels", "launch_graph")


def engine_cases(model: Model, device: str, has_graphs: bool, max_tokens: int) -> list[Case]:
    """Return the cases of the engine, which runs on one GPU.

    Args:
        model: The model.
        device: "cuda" or "cpu"; launch times are measured on a GPU only.
        has_graphs: Whether decodes can be captured as CUDA graphs.
        max_tokens: Largest number of tokens of a sequence.
    """
    launches = LAUNCHED[: 1 + has_graphs] if device == CUDA else ()
    hosts = [(batch, operator) for batch in BATCHES for operator in (*WAITED_FOR, *launches)]
    fits = max_tokens > CONTEXT + WARM_UPS + REPEATS
    cases = [Case("host", (model.name, 1, operator, batch)) for batch, operator in hosts if fits]
    for size in (*_decodes(), *_chunks()):
        tokens, context, _, decode_context = size
        if tokens + context <= max_tokens and decode_context < max_tokens:
            cases.append(Case("iteration", (model.name, 1, "iteration", *size)))
    # One engine at a time: each has its own weights and KV cache. Captured decodes first: most iterations are decodes.
    return sorted(cases, key=lambda case: has_graphs and not is_captured(case))


def is_captured(case: Case) -> bool:
    """Whether a case uses CUDA graphs if decodes can be captured."""
    if case.family == "host":
        return bool(case["operator"] == "launch_graph")
    return not case["num_prefill_tokens"]


def _decodes() -> Iterator[tuple[int, int, int, int]]:
    for batch in BATCHES:
        for context in CONTEXTS:
            yield 0, 0, batch, context


def _chunks() -> Iterator[tuple[int, int, int, int]]:
    """Yield prefill chunks, and hybrid batches of the same number of tokens."""
    for tokens in CHUNKS:
        for context in (0, *CONTEXTS):
            yield tokens, context, 0, 0
        for decodes in HYBRIDS:
            if 2 * decodes <= tokens:
                yield tokens - decodes, CONTEXTS[0], decodes, CONTEXTS[-1]


class EngineBench:
    """The serving engine under test.

    Its loop is measured for host time, its executor for whole iterations.
    """

    def __init__(self, torch: Any, flashinfer: Any, model: Model, device: str) -> None:
        """Store the arguments of `Executor`."""
        self._torch = torch
        self._flashinfer = flashinfer
        self._model = model
        self._device = device
        self._served: dict[tuple[int, bool], Sequence[Iteration]] = {}
        self._executor: tuple[bool, Executor] | None = None
        self._lacks_memory = False

    def measure(self, case: Case) -> Sample | None:
        """Measure the host time of a part or a forward pass.

        None if the GPU waits for the host during the forward pass, or if the model does not fit in its memory.
        """
        if self._lacks_memory:
            return None
        try:
            return self._measure(case)
        except self._torch.OutOfMemoryError:
            self._lacks_memory = True
            print(f"engine: the memory is too small for {self._model.name}; its operators are measured without it")
        self._executor = None
        free_memory(self._torch, self._device)
        return None

    def _measure(self, case: Case) -> Sample | None:
        if case.family == "iteration":
            return self._forward(case)
        key = case["batch"], is_captured(case)
        if key not in self._served:
            self._served[key] = self._serve(*key)
        return Sample.of([part_of(iteration, case["operator"]) for iteration in self._served[key]])

    def release(self) -> None:
        """Free the memory of the engine."""
        if self._executor is not None:
            self._executor = None
            free_memory(self._torch, self._device)

    def _serve(self, batch: int, captured: bool) -> Sequence[Iteration]:
        """Serve a batch; return its decode iterations after the warm-up."""
        num_decodes = WARM_UPS + REPEATS
        trace = Trace(np.full(batch, CONTEXT), np.full(batch, num_decodes + 1), np.zeros(batch))
        scheduler = Sarathi(token_budget=batch * CONTEXT, max_num_seqs=batch)
        longest = self._model.max_model_len
        spec = ReplicaSpec(scheduler, StageTimes(_untimed), self._num_blocks, BLOCK_SIZE, 0.0, longest)
        loop = ServingLoop(trace, spec, self._model.vocab_size, self._executor_for(captured).execute)
        decodes = [step for step in loop.serve().iterations if step.num_decodes == batch and not step.chunks]
        return decodes[WARM_UPS:]

    def _forward(self, case: Case) -> Sample | None:
        """Measure a forward pass.

        Decodes run as CUDA graphs if possible, so that the GPU does not wait.
        """
        work = self._work(*(case[name] for name in SIZES))
        token_ids = [np.zeros(span.total + 1, dtype=np.int64) for span in work.spans]
        executor = self._executor_for(is_captured(case) and self._flashinfer is not None)
        times = [executor.execute(work, token_ids)[1] for _ in range(WARM_UPS + REPEATS)][WARM_UPS:]
        if self._device == CUDA and sum(run.launch_s for run in times) > 0.9 * sum(run.device_s for run in times):
            return None
        return Sample.of([run.device_s for run in times])

    def _work(self, tokens: int, context: int, decodes: int, decode_context: int) -> Work:
        scattered = np.random.default_rng(0).permutation(self._num_blocks).astype(np.int32)
        sizes = [(tokens, context)] * bool(tokens) + [(1, decode_context)] * decodes
        spans = []
        for new, before in sizes:
            count = -(-(new + before) // BLOCK_SIZE)
            blocks, scattered = scattered[:count], scattered[count:]
            spans.append(Span(blocks, new, before))
        num_chunks = len(spans) - decodes
        return Work(list(range(len(spans))), spans[:num_chunks], spans[num_chunks:])

    @property
    def _num_blocks(self) -> int:
        per_sequence = -(-(max(CONTEXTS) + WARM_UPS + REPEATS + 1) // BLOCK_SIZE)
        return per_sequence * max(BATCHES) + max(CHUNKS) // BLOCK_SIZE

    def _executor_for(self, captured: bool) -> Executor:
        if self._executor is None or self._executor[0] != captured:
            self.release()
            sizes = BATCHES if captured else ()
            parts = self._torch, self._flashinfer, self._model, self._device
            executor = Executor(*parts, self._num_blocks, BLOCK_SIZE, sizes, time.perf_counter)
            self._executor = captured, executor
        return self._executor[1]


def _untimed(batch: Batch) -> Sequence[float]:
    raise AssertionError(f"the engine spends real time, also on {batch.num_decodes} decodes")


def part_of(iteration: Iteration, part: str) -> float:
    """Return the seconds of a part of an iteration.

    "synchronize" is the rest.
    """
    parts = {
        "schedule": iteration.schedule_s,
        "prepare_inputs": iteration.prepare_s,
        "launch_kernels": iteration.launch_s,
        "launch_graph": iteration.launch_s,
        "process_outputs": iteration.finish_s,
    }
    if part in parts:
        return parts[part]
    host_s = iteration.schedule_s + iteration.prepare_s + iteration.finish_s
    computed_s = max(iteration.launch_s, iteration.device_s)
    return max(0.0, iteration.end_s - iteration.start_s - host_s - computed_s)
