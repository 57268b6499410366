"""Helpers of several test files: paths, small deployments, and commands run in this process."""

import io
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from simulator import Deployment, MetricOptions, Result, simulate
from simulator.config import build, build_slo, composed, description, files_of, load_config
from simulator.iteration_time import Affine
from simulator.model import KVMemory, Model, Parallelism
from simulator.output import write_result
from simulator.results import client_figures
from simulator.schedulers import VLLM, VLLMV1, ChunkedPrefills, FasterTransformer, Orca, Sarathi, Scheduler
from traces import Trace

REPOSITORY = Path(__file__).parent.parent
SHARED = REPOSITORY.parent / "shared"

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared recordings and data are not here")


def code_blocks(path: str, language: str) -> list[str]:
    """Return the code blocks of one language in a Markdown file of the repository."""
    return re.findall(rf"```{language}\n(.*?)```", (REPOSITORY / path).read_text(), re.DOTALL)


# A policy that is added here is tested against the laws in test_every_scheduler.py.
POLICIES: list[Scheduler] = [
    Sarathi(token_budget=64),
    VLLM(),
    Orca(),
    FasterTransformer(),
    ChunkedPrefills(chunk_size=64),
    VLLMV1(max_num_batched_tokens=64),
    VLLMV1(max_num_batched_tokens=64, async_scheduling=True),
]


def tiny_model(max_model_len: int) -> Model:
    """Build a small model of which only `max_model_len` matters."""
    return Model(
        name="tiny",
        num_layers=8,
        hidden_size=64,
        num_q_heads=4,
        num_kv_heads=2,
        head_dim=16,
        ffn_size=128,
        gated_mlp=True,
        vocab_size=100,
        max_model_len=max_model_len,
    )


A100 = load_config()["deployment"].device


def trace_of(requests: Sequence[tuple[float, int, int]]) -> Trace:
    """Build a trace from tuples (arrival_s, prompt_tokens, output_tokens)."""
    arrival_s, prompt_tokens, output_tokens = zip(*requests, strict=True)
    return Trace(np.array(prompt_tokens), np.array(output_tokens), np.array(arrival_s, dtype=float))


def single_server() -> Deployment:
    """Build a deployment that serves one request at a time, at one second per token."""
    return Deployment(
        tiny_model(10_000),
        A100,
        Orca(max_num_seqs=1),
        iteration_time=Affine(1.0, 0.0),
        kv_cache=KVMemory(num_blocks=10_000),
    )


def serve(
    requests: Sequence[tuple[float, int, int]],
    scheduler: Scheduler,
    *,
    num_blocks: int = 1000,
    max_model_len: int = 1024,
    pp: int = 1,
    watermark: float = 0.01,
    iteration_time: Affine | None = None,
    num_replicas: int = 1,
    time_limit_s: float | None = None,
    metrics: MetricOptions | None = None,
) -> Result:
    """Simulate requests; by default an iteration takes 20 ms plus 0.1 ms per token."""
    deployment = Deployment(
        tiny_model(max_model_len),
        A100,
        scheduler,
        Parallelism(pp=pp),
        iteration_time or Affine(),
        KVMemory(num_blocks=num_blocks, watermark=watermark),
        num_replicas,
    )
    return simulate(trace_of(requests), deployment, time_limit_s=time_limit_s, metrics=metrics, log_members=True)


def write_run(folder: Path, *overrides: str) -> Result:
    """Simulate and write the output files, as `python -m simulator` does."""
    folder.mkdir(parents=True, exist_ok=True)
    with composed("config", overrides) as config:
        arguments = build(config)
        result = simulate(**arguments)
        deployment = arguments["deployment"]
        slo = build_slo(config.slo, deployment)
        about = {"slo": slo.figures(result) if slo else None, "clients": client_figures(result)}
        about |= description(config, deployment)
        write_result(result, folder, about, files_of(config))
    return result


def run_main(main: Callable[[], None], arguments: Sequence[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the `main` of a command in a folder and return its exit status."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    try:
        main()
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def command(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE` in a folder, in this process; return its output and exit status."""
    package = import_module(module)
    main = package.main if hasattr(package, "main") else import_module(f"{module}.__main__").main
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.setenv("PYTHONPATH", str(REPOSITORY))  # for the processes that launchers start
        status = run_main(main, arguments, folder, patch)
    return subprocess.CompletedProcess([module, *arguments], status, output.getvalue(), errors.getvalue())
