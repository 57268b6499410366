"""Records configurations of the simulator on what is here."""

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
from simulator.schedulers import SizedBatches
from traces import Trace

# Served before a recording, so that nothing in it is done for the first time: prompt and output tokens.
REHEARSED = ((64, 4), (1, 2), (512, 4), (300, 8))
# Prompts that a GPU is warmed up with. A CPU sees every number of rows.
GPU_LENGTHS = tuple(1 << power for power in range(12))


class Recorder:
    """Serves traces in real time; recordings of the same engine share its weights and its KV cache."""

    def __init__(self, torch: Any, on: str) -> None:
        """Take what computes.

        Args:
            torch: The module.
            on: "cuda" or "cpu".
        """
        self._torch = torch
        self._on = on
        self._flashinfer = flashinfer_or_none() if on == CUDA else None
        self._executor: Executor | None = None
        self._engine: tuple[Any, ...] = ()
        self._most_warm = 0

    def record(self, name: str, overrides: Sequence[str]) -> Recording:
        """Warm up, and then serve a trace.

        Args:
            name: Name of the recording.
            overrides: Configuration of the simulator; its device is the one that is here, unless they name one.

        Raises:
            ValueError: It cannot be recorded.
        """
        if not any(one.startswith("device=") for one in overrides):
            overrides = [f"device={name_of_device(self._torch, self._on)}", *overrides]
        arguments = load_config(*overrides)
        deployment = _recordable(arguments)
        (spec,) = deployment.replica_specs()
        vocab_size, trace = deployment.model.vocab_size, arguments["trace"]
        executor = self._executor_for(deployment, spec.num_blocks, spec.block_size)
        ServingLoop(_rehearsal(deployment.model.max_model_len), spec, vocab_size, executor.execute).serve()
        loop = ServingLoop(trace, spec, vocab_size, executor.execute)
        gc.collect()
        gc.freeze()  # what lives now is not looked at again
        try:
            served = loop.serve()
        finally:
            gc.unfreeze()
        found = header(self._torch, executor.kernel_library, deployment.device, self._on, "record")
        return Recording(name, found, self._on, overrides, trace, served)

    def _executor_for(self, deployment: Deployment, num_blocks: int, block_size: int) -> Executor:
        """Build an engine, or take the last one if it is the same, and warm it up."""
        sizes = tuple(deployment.engine.decode_graph_sizes)
        engine = deployment.model, num_blocks, block_size, sizes
        if self._executor is None or self._engine != engine:
            self._executor, self._engine, self._most_warm = None, engine, 0
            free_memory(self._torch, self._on)
            parts = self._torch, self._flashinfer, deployment.model, self._on
            self._executor = Executor(*parts, num_blocks, block_size, sizes, time.perf_counter)
        lengths = [one for one in _lengths(deployment, self._on) if one > self._most_warm]
        self._executor.warm_up(lengths)
        self._most_warm = max([self._most_warm, *lengths])
        return self._executor


def _recordable(arguments: dict[str, Any]) -> Deployment:
    """Return the deployment of a configuration.

    Raises:
        ValueError: It is more than one replica on one GPU, or things go wrong in it.
    """
    deployment = arguments["deployment"]
    if not isinstance(deployment, Deployment) or deployment.num_replicas != 1:
        raise ValueError("cluster: one replica is recorded, without groups")
    if deployment.parallel.num_gpus != 1:
        raise ValueError("parallel: one GPU is recorded, tp=1 and pp=1")
    if arguments["faults"]:
        raise ValueError("faults: a recording has none")
    return deployment


def _lengths(deployment: Deployment, on: str) -> Sequence[int]:
    longest = deployment.model.max_model_len
    policy = deployment.scheduler
    most = policy.profiled_tokens(longest) if isinstance(policy, SizedBatches) else longest
    most = min(most, longest)
    if on == CPU:
        return [*range(1, min(most, CPU_ROW_GRAIN)), *range(CPU_ROW_GRAIN, most + 1, CPU_ROW_GRAIN)]
    return [one for one in GPU_LENGTHS if one <= longest]


def _rehearsal(max_model_len: int) -> Trace:
    prompts, outputs = np.minimum(np.array(REHEARSED), max_model_len // 2).T
    return Trace(prompts, outputs, np.zeros(len(prompts)))
