"""`python -m profiling measure`."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, astuple
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from profiling.device.environment import CPU, CUDA, flashinfer_or_none, header, name_of_device, require_torch
from profiling.measure.cases import OPERATORS, Case, layer_cases
from profiling.measure.communication import communication_cases, measure_group
from profiling.measure.iterations import EngineBench, engine_cases
from profiling.measure.kernels import TorchKernels
from profiling.measure.session import Measure, Measured, Outcome, Session
from profiling.measure.timing import MOST_COPIES, CudaTimer, Sample, Timer, WallTimer, copies_beyond
from profiling.serving.attention import attention_maker
from profiling.serving.executor import prepare_libraries
from profiling.serving.operators import operators_on
from profiling.tables import HEADER, Header, TableError
from simulator.config import choices, component
from simulator.model import HALF_BYTES, Device, Model, read_hf_config

# Share of the free memory that the buffers of one operator may take.
MEMORY_SHARE = 0.6


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    command.add_argument("--model", required=True, help="one of configs/model, or a Hugging Face config.json")
    command.add_argument("--output", type=Path, required=True, help="folder that gets the folder of the device")
    command.add_argument("--on", choices=(CUDA, CPU), default=CUDA, help="what computes; default: cuda")
    command.add_argument("--device", help="one of configs/device; default: recognised by its name")
    command.add_argument("--tp", default="1", help="tensor-parallel degrees, comma-separated; default: 1")
    command.add_argument("--operators", default=",".join(OPERATORS), help=f"some of {','.join(OPERATORS)}")
    command.add_argument("--max-tokens", type=int, help="largest number of tokens; default: the model's maximum")
    command.add_argument("--time-budget-s", type=float, help="begin no measurement after so many seconds")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure, and say what was done.

    Raises:
        ValueError: An option is wrong, or there is no GPU.
    """
    if options.time_budget_s is not None and not options.time_budget_s > 0:
        raise ValueError(f"--time-budget-s must be above 0, got {options.time_budget_s}")
    measured_folder(**{name: value for name, value in vars(options).items() if name != "run"})


def measured_folder(
    output: Path,
    model: str,
    tp: str,
    on: str,
    max_tokens: int | None,
    time_budget_s: float | None,
    operators: str = ",".join(OPERATORS),
    device: str | None = None,
) -> Path:
    """Measure, say what was done, and return the folder of the device. The arguments are the options of the command.

    Raises:
        ValueError: An option is wrong, or there is no GPU.
    """
    architecture = _model(model)
    chosen, degrees = _operators(operators), _degrees(tp)
    most_tokens = architecture.max_model_len if max_tokens is None else max_tokens
    if most_tokens < 1:
        raise ValueError(f"--max-tokens must be at least 1, got {most_tokens}")
    cases = layer_cases(architecture, degrees, chosen, most_tokens)
    engine: list[Case] = []
    torch = require_torch(on)
    here = device_named(device or name_of_device(torch, on))
    flashinfer = flashinfer_or_none() if on == CUDA else None
    folder = output / here.name
    with torch.inference_mode():
        bench = _Bench(torch, flashinfer, architecture, on)
        _write_header(folder, header(torch, bench.kernel_library, here, on, "measure"))
        if "engine" in chosen and 1 in degrees:
            engine = engine_cases(architecture, on, flashinfer is not None, most_tokens)
        if on == CUDA:
            cases += communication_cases(here.name, torch.cuda.device_count(), chosen)
            prepare_libraries(torch, flashinfer, architecture)
        outcome = measure_parts(
            Session(folder, here.name), [part for part in (engine, cases) if part], bench.measure, time_budget_s
        )
    print(
        f"{folder}: {outcome.num_measured:,} measured, {outcome.num_known:,} known before, {outcome.num_skipped:,} "
        f"that cannot be measured here, {outcome.num_left:,} left by the time budget"
    )
    return folder


def measure_parts(
    session: Session, parts: Sequence[Sequence[Case]], measure: Measure, time_budget_s: float | None
) -> Outcome:
    """Measure one part after the other, each in its share of the time that is left: a fit needs some of each.

    Args:
        session: Keeps what was measured.
        parts: Cases, none empty.
        measure: Measures one case.
        time_budget_s: Seconds for all of them; None: no limit.
    """
    if not parts:
        return Outcome(0, 0, 0, 0)
    end_s = None if time_budget_s is None else time.monotonic() + time_budget_s
    columns = (TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    found: list[Outcome] = []
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        for number, cases in enumerate(parts):
            share_s = None if end_s is None else max(0.0, end_s - time.monotonic()) / (len(parts) - number)
            task = bar.add_task("cases", total=len(cases))
            found.append(session.run(cases, measure, share_s, partial(_advance, bar, task)))
    return Outcome(*map(sum, zip(*map(astuple, found), strict=True)))


def _advance(bar: Progress, task: TaskID, num_done: int) -> None:
    bar.update(task, completed=num_done)


class _Bench:
    """Measures cases on what is here.

    Attributes:
        kernel_library: What computes.
    """

    def __init__(self, torch: Any, flashinfer: Any, model: Model, on: str) -> None:
        operators = operators_on(on, torch, flashinfer)
        self._torch = torch
        self._on = on
        new_attention = attention_maker(torch, flashinfer, on)
        self._kernels = TorchKernels(model, operators, on, new_attention)
        # An engine on a CPU finds its weights where those of the iteration before left them in the caches.
        weight_bytes = int(model.num_parameters * HALF_BYTES)
        self._cache_bytes = weight_bytes // 2
        self._timer: Timer = WallTimer(self._cache_bytes)
        if on == CUDA:
            self._timer = CudaTimer(torch)
            self._cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size
        self._engine = EngineBench(torch, flashinfer, model, on)
        self._collectives: dict[Case, Sample] = {}
        self.kernel_library = operators.kernel_library

    def measure(self, case: Case) -> Measured:
        """Measure one case."""
        if case.family in ("host", "iteration"):
            return Measured(self._engine.measure(case), self.kernel_library)
        self._engine.release()
        if case.family == "communication":
            return Measured(self._collective(case), f"torch {self._torch.__version__}")
        prepared = self._kernels.prepare(case)
        copies = copies_beyond(self._cache_bytes, prepared.cold_bytes)
        if prepared.cold_bytes * (copies - 1) + prepared.num_bytes > MEMORY_SHARE * self._free_bytes():
            return Measured(None, prepared.kernel_library)
        sample = self._timer.measure(prepared.build, prepared.cold_bytes)
        if self._on == CUDA and copies < MOST_COPIES:
            self._torch.cuda.empty_cache()  # large buffers: leave the memory to the next ones
        return Measured(sample, prepared.kernel_library)

    def _free_bytes(self) -> int:
        if self._on == CUDA:
            free: int = self._torch.cuda.mem_get_info()[0]
            return free
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")

    def _collective(self, case: Case) -> Sample:
        """All cases of as many GPUs are measured together: starting the processes takes longest."""
        if case not in self._collectives:
            groups = communication_cases(case["machine"], case["num_gpus"], OPERATORS)
            same = [one for one in groups if one["num_gpus"] == case["num_gpus"]]
            self._collectives |= dict(zip(same, measure_group(same, "nccl"), strict=True))
        return self._collectives[case]


def _write_header(folder: Path, found: Header) -> None:
    """Write the header, or check that what is there was measured on the same GPU with the same libraries."""
    if (folder / HEADER).exists():
        there = asdict(Header.read(folder))
        for name in ("device", "engine_generation", "num_sms"):
            if there[name] != getattr(found, name):
                raise TableError(
                    f"{folder} was measured with another {name}: {there[name]}; here it is {getattr(found, name)}: "
                    "use another --output"
                )
        return
    found.write(folder)


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
        ValueError: There is none of this name.
    """
    if name not in choices("device"):
        raise ValueError(f"{name}: say with --device which it is: {', '.join(choices('device'))}")
    device: Device = component("device", name)
    return device


def _operators(names: str) -> list[str]:
    chosen = [name for name, _ in groupby(names.split(","))]
    unknown = [name for name in chosen if name not in OPERATORS]
    if unknown:
        raise ValueError(f"--operators: {unknown[0]} is not one; allowed are {', '.join(OPERATORS)}")
    return chosen


def _degrees(text: str) -> list[int]:
    degrees = [int(one) for one in text.split(",") if one.isdecimal()]
    if len(degrees) != len(text.split(",")) or not all(degrees):
        raise ValueError(f"--tp must be whole numbers from 1, comma-separated, got {text}")
    return degrees
