"""Records configurations of the simulator on this machine."""

import gc
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from profiling.device.environment import CPU, CUDA, flashinfer_or_none, free_memory, header, name_of_device
from profiling.serving.executor import Executor
from profiling.serving.loop import ServingLoop
from profiling.serving.operators import CPU_ROW_GRAIN
from profiling.serving.recording import Recording
from simulator.cluster import Deployment
from simulator.config import load_config
from traces import Trace

# Prompt and output tokens of the warm-up trace: nothing in a recording happens for the first time.
WARM_UP_REQUESTS = ((64, 4), (1, 2), (512, 4), (300, 8))
# Prompt lengths of the warm-up on a GPU. A CPU gets every number of rows.
GPU_LENGTHS = tuple(1 << power for power in range(12))


class Recorder:
    """Recorder of served traces.

    Recordings of the same engine share weights and KV cache.
    """

    def __init__(self, torch: Any, on: str) -> None:
        """Load FlashInfer on a GPU.

        Args:
            torch: The module.
            on: "cuda" or "cpu".
        """
        self._torch = torch
        self._on = on
        self._flashinfer = flashinfer_or_none() if on == CUDA else None
        self._executor: Executor | None = None
        self._engine: tuple[Any, ...] = ()
        self._max_warm_length = 0

    def record(self, name: str, overrides: Sequence[str]) -> Recording:
        """Warm up, then serve and record a trace.

        Args:
            name: Name of the recording.
            overrides: Configuration of the simulator; the device is this machine's unless they name one.

        Raises:
            ValueError: The configuration cannot be recorded.
        """
        if not any(override.startswith("device=") for override in overrides):
            overrides = [f"device={name_of_device(self._torch, self._on)}", *overrides]
        arguments = load_config(*overrides)
        deployment = _recordable(arguments)
        (spec,) = deployment.replica_specs()
        vocab_size, trace = deployment.model.vocab_size, arguments["trace"]
        executor = self._executor_for(deployment, spec.num_blocks, spec.block_size)
        ServingLoop(_warm_up_trace(deployment.model.max_model_len), spec, vocab_size, executor.execute).serve()
        loop = ServingLoop(trace, spec, vocab_size, executor.execute)
        gc.collect()
        gc.freeze()  # later collections skip what lives now
        try:
            served = loop.serve()
        finally:
            gc.unfreeze()
        about = header(self._torch, executor.kernel_library, deployment.device, self._on, "record")
        return Recording(name, about, self._on, overrides, trace, served)

    def _executor_for(self, deployment: Deployment, num_blocks: int, block_size: int) -> Executor:
        """Build an engine, or reuse the last, and warm it up.

        The last engine is reused if model, KV blocks and graph sizes are the same.
        """
        sizes = tuple(deployment.engine.decode_graph_sizes)
        engine = deployment.model, num_blocks, block_size, sizes
        if self._executor is None or self._engine != engine:
            self._executor, self._engine, self._max_warm_length = None, engine, 0
            free_memory(self._torch, self._on)
            parts = self._torch, self._flashinfer, deployment.model, self._on
            self._executor = Executor(*parts, num_blocks, block_size, sizes, time.perf_counter)
        lengths = [length for length in _lengths(deployment, self._on) if length > self._max_warm_length]
        self._executor.warm_up(lengths)
        self._max_warm_length = max([self._max_warm_length, *lengths])
        return self._executor


def _recordable(arguments: dict[str, Any]) -> Deployment:
    """Return the deployment of a configuration.

    Raises:
        ValueError: It is not one replica on one GPU, or it has faults.
    """
    deployment = arguments["deployment"]
    if not isinstance(deployment, Deployment) or deployment.num_replicas != 1:
        raise ValueError("cluster: only one replica can be recorded, without groups")
    if deployment.parallel.num_gpus != 1:
        raise ValueError("parallel: only one GPU can be recorded, with tp=1 and pp=1")
    if arguments["faults"]:
        raise ValueError("faults: a recording cannot have faults")
    return deployment


def _lengths(deployment: Deployment, on: str) -> Sequence[int]:
    longest = deployment.model.max_model_len
    max_tokens = min(deployment.scheduler.limits.profiled_tokens(longest), longest)
    if on == CPU:
        return [*range(1, min(max_tokens, CPU_ROW_GRAIN)), *range(CPU_ROW_GRAIN, max_tokens + 1, CPU_ROW_GRAIN)]
    return [length for length in GPU_LENGTHS if length <= longest]


def _warm_up_trace(max_model_len: int) -> Trace:
    prompts, outputs = np.minimum(np.array(WARM_UP_REQUESTS), max_model_len // 2).T
    return Trace(prompts, outputs, np.zeros(len(prompts)))
