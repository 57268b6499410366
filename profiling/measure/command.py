"""`python -m profiling measure`."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, astuple
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from profiling import options
from profiling.device.environment import CPU, CUDA, flashinfer_or_none, header, name_of_device, require_torch
from profiling.measure.cases import BF16, FORMATS, FP8, OPERATORS, Case, layer_cases
from profiling.measure.communication import communication_cases, measure_group
from profiling.measure.iterations import EngineBench, engine_cases
from profiling.measure.kernels import TorchKernels
from profiling.measure.session import Measure, Measured, Outcome, Session
from profiling.measure.timing import MAX_COPIES, CudaTimer, Timer, WallTimer, copies_beyond
from profiling.serving.attention import attention_maker
from profiling.serving.decoder import supports
from profiling.serving.executor import prepare_libraries
from profiling.serving.operators import multiplies_fp8, operators_on
from profiling.tables import HEADER, Header
from simulator.config import choices, component
from simulator.model import HALF_BYTES, Device, Model, read_hf_config
from traces.shared.value_checks import choice, integer, number

# Share of the free memory that one operator's buffers may use.
MEMORY_SHARE = 0.6


@click.command("measure", help="Measure the operators of a model on this machine's GPU.")
@click.option("--model", required=True, help="One of configs/model, or a path of a Hugging Face config.json.")
@options.output("Parent of the device folder that is written.")
@options.run_on
@click.option("--device", help="One of configs/device.  [default: recognised by the driver's name]")
@click.option("--tp", default="1", show_default=True, help="Tensor-parallel degrees, comma-separated.")
@click.option("--operators", default=",".join(OPERATORS), help=f"Of {', '.join(OPERATORS)}.  [default: all]")
@click.option(
    "--formats",
    help=f"Number formats of matrix products, of {','.join(FORMATS)}.  [default: {BF16}, on a GPU {FP8} too where it "
    "multiplies it]",
)
@options.max_tokens
@click.option("--time-budget-s", type=float, help="Start no measurement after this many seconds.  [default: no limit]")
def command(time_budget_s: float | None, **options: Any) -> None:
    """Run the command.

    Raises:
        ValueError: An option is invalid, or there is no GPU.
    """
    number("--time-budget-s", time_budget_s, 0, excluding="low", optional=True)
    measure_device(time_budget_s=time_budget_s, **options)


def measure_device(
    output: Path,
    model: str,
    tp: str,
    on: str,
    max_tokens: int | None,
    time_budget_s: float | None,
    operators: str = ",".join(OPERATORS),
    device: str | None = None,
    formats: str | None = None,
) -> Path:
    """Measure a device, print the outcome and return its folder.

    The arguments are the command's options.

    Raises:
        ValueError: An option is invalid, or there is no GPU.
    """
    architecture = _model(model)
    chosen, degrees = _operators(operators), _degrees(tp)
    limit = architecture.max_model_len if max_tokens is None else max_tokens
    integer("--max-tokens", limit, 1)
    cases = layer_cases(architecture, degrees, chosen, limit, _formats(formats, on))
    engine: list[Case] = []
    torch = require_torch(on)
    cases = _supported(torch, on, cases)
    measured = device_named(device or name_of_device(torch, on))
    flashinfer = flashinfer_or_none() if on == CUDA else None
    folder = output / measured.name
    with torch.inference_mode():
        bench = _Bench(torch, flashinfer, architecture, on)
        _write_header(folder, header(torch, bench.kernel_library, measured, on, "measure"))
        if "engine" in chosen and 1 in degrees:
            engine = _engine_cases(architecture, on, flashinfer is not None, limit)
        messages: list[Case] = []
        if on == CUDA:
            messages = communication_cases(measured.name, torch.cuda.device_count(), chosen)
            prepare_libraries(torch, flashinfer, architecture)
        parts = [part for part in (messages, engine, cases) if part]
        outcome = measure_parts(Session(folder, measured.name), parts, bench.measure, time_budget_s)
    print(
        f"{folder}: {outcome.num_measured:,} measured, {outcome.num_known:,} known before, {outcome.num_skipped:,} "
        f"that this machine cannot measure, {outcome.num_left:,} beyond the time budget"
    )
    return folder


def _engine_cases(model: Model, on: str, has_graphs: bool, max_tokens: int) -> list[Case]:
    """Return the engine's cases; print a line if it lacks the model."""
    if not supports(model):
        print(f"engine: the serving engine does not support {model.name}; its operators are measured without it")
        return []
    return engine_cases(model, on, has_graphs, max_tokens)


def measure_parts(
    session: Session, parts: Sequence[Sequence[Case]], measure: Measure, time_budget_s: float | None
) -> Outcome:
    """Measure parts in turn, each in its share of the time.

    The remaining time is divided evenly among the remaining parts: a fit needs rows of every part.

    Args:
        session: Saves the measurements.
        parts: Cases of each part, none empty.
        measure: Measures one case.
        time_budget_s: Seconds for all parts; None: no limit.
    """
    if not parts:
        return Outcome(0, 0, 0, 0)
    end_s = None if time_budget_s is None else time.monotonic() + time_budget_s
    columns = (TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    outcomes: list[Outcome] = []
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        for number, cases in enumerate(parts):
            share_s = None if end_s is None else max(0.0, end_s - time.monotonic()) / (len(parts) - number)
            task = bar.add_task("cases", total=len(cases))
            outcomes.append(session.run(cases, measure, share_s, partial(_advance, bar, task)))
    return Outcome(*map(sum, zip(*map(astuple, outcomes), strict=True)))


def _advance(bar: Progress, task: TaskID, num_done: int) -> None:
    bar.update(task, completed=num_done)


class _Bench:
    """Kernels, collectives and engine of a model on this machine.

    Attributes:
        kernel_library: Names and versions of the kernel libraries.
    """

    def __init__(self, torch: Any, flashinfer: Any, model: Model, on: str) -> None:
        operators = operators_on(on, torch, flashinfer)
        self._torch = torch
        self._on = on
        new_attention = attention_maker(torch, flashinfer, on)
        self._kernels = TorchKernels(model, operators, on, new_attention)
        # On a CPU, copies add up to the model's weights: caches are as warm as in an engine.
        weight_bytes = int(model.num_parameters * HALF_BYTES)
        self._cache_bytes = weight_bytes // 2
        self._timer: Timer = WallTimer(self._cache_bytes)
        if on == CUDA:
            self._timer = CudaTimer(torch)
            self._cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size
        self._engine = EngineBench(torch, flashinfer, model, on)
        self._collectives: dict[Case, Measured] = {}
        self.kernel_library = operators.kernel_library

    def measure(self, case: Case) -> Measured:
        """Measure one case."""
        if case.family in ("host", "iteration"):
            return Measured(self._engine.measure(case), self.kernel_library)
        self._engine.release()
        if case.family == "communication":
            return self._collective(case)
        prepared = self._kernels.prepare(case)
        copies = copies_beyond(self._cache_bytes, prepared.cold_bytes)
        if prepared.cold_bytes * (copies - 1) + prepared.num_bytes > MEMORY_SHARE * self._free_bytes():
            return Measured(None, prepared.kernel_library)
        sample = self._timer.measure(prepared.build, prepared.cold_bytes)
        if self._on == CUDA and copies < MAX_COPIES:
            self._torch.cuda.empty_cache()  # free large buffers for the next case
        return Measured(sample, prepared.kernel_library)

    def _free_bytes(self) -> int:
        if self._on == CUDA:
            free: int = self._torch.cuda.mem_get_info()[0]
            return free
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")

    def _collective(self, case: Case) -> Measured:
        """Measure all cases of the same number of GPUs at once.

        Starting the processes takes longest.
        """
        if case not in self._collectives:
            cases = communication_cases(case["machine"], case["num_gpus"], OPERATORS)
            group = [member for member in cases if member["num_gpus"] == case["num_gpus"]]
            self._collectives |= dict(zip(group, measure_group(group, "nccl"), strict=True))
        return self._collectives[case]


def _write_header(folder: Path, new: Header) -> None:
    """Write the header, or check an existing one.

    An existing header must have the same GPU and libraries.
    """
    if (folder / HEADER).exists():
        existing = asdict(Header.read(folder))
        for name in ("device", "engine_generation", "num_sms"):
            if existing[name] != getattr(new, name):
                raise ValueError(
                    f"{folder} was measured with {name} {existing[name]}; this machine has {getattr(new, name)}: "
                    "use another --output"
                )
        return
    new.write(folder)


def _model(name: str) -> Model:
    if name.endswith(".json") or "/" in name:
        return read_hf_config(name)
    if name not in choices("model"):
        raise ValueError(f"--model must be a path of a config.json or one of {', '.join(choices('model'))}; got {name}")
    model: Model = component("model", name)
    return model


def device_named(name: str) -> Device:
    """Return a device of configs/device.

    Raises:
        ValueError: No device has this name.
    """
    choice("--device", name, choices("device"))
    device: Device = component("device", name)
    return device


def _operators(names: str) -> list[str]:
    chosen = [name for name, _ in groupby(names.split(","))]
    for name in chosen:
        choice("--operators", name, OPERATORS)
    return chosen


def _formats(names: str | None, on: str) -> list[str]:
    """Return the formats asked for, by default all of the device."""
    if names is None:
        return [BF16] if on == CPU else list(FORMATS)
    chosen = [name for name, _ in groupby(names.split(","))]
    for name in chosen:
        choice("--formats", name, FORMATS)
    return chosen


def _supported(torch: Any, on: str, cases: Sequence[Case]) -> list[Case]:
    """Return the cases this device supports; print a line without fp8."""
    fp8 = {case for case in cases if case.family == "matmul" and case["dtype"] == FP8}
    if not fp8 or multiplies_fp8(torch, on):
        return list(cases)
    needed = "a GPU of compute capability 8.9 or above" if on == CUDA else "a torch that multiplies it on CPUs"
    print(f"{FP8}: not measured, it needs {needed}")
    return [case for case in cases if case not in fp8]


def _degrees(text: str) -> list[int]:
    degrees = [int(degree) for degree in text.split(",") if degree.isdecimal()]
    if len(degrees) != len(text.split(",")) or not all(degrees):
        raise ValueError(f"--tp must be comma-separated integers, at least 1, got {text}")
    return degrees
