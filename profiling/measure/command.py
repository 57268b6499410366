"""`python -m profiling measure`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from profiling.measure.cases import OPERATORS, Case, layer_cases
from profiling.measure.communication import communication_cases, measure_group
from profiling.measure.environment import NAMES, flashinfer_or_none, header, require_torch_and_gpu
from profiling.measure.kernels import TorchKernels
from profiling.measure.launch import launch_cases, measure_launch
from profiling.measure.session import Measured, Outcome, Session
from profiling.measure.timing import MOST_COPIES, CudaTimer, copies_beyond
from profiling.tables import HEADER, Header, TableError
from simulator.components import choices, component
from simulator.hardware import Device
from simulator.hf_config import read_hf_config
from simulator.model import Model

# Share of the free memory that the buffers of one operator may take.
MEMORY_SHARE = 0.6


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    command.add_argument("--model", required=True, help="one of configs/model, or a Hugging Face config.json")
    command.add_argument("--output", type=Path, required=True, help="folder that gets the folder of the device")
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
    model = _model(options.model)
    operators, degrees = _operators(options.operators), _degrees(options.tp)
    most_tokens = model.max_model_len if options.max_tokens is None else options.max_tokens
    if most_tokens < 1:
        raise ValueError(f"--max-tokens must be at least 1, got {most_tokens}")
    if options.time_budget_s is not None and not options.time_budget_s > 0:
        raise ValueError(f"--time-budget-s must be above 0, got {options.time_budget_s}")
    cases = layer_cases(model, degrees, operators, most_tokens)
    torch = require_torch_and_gpu()
    device = _device(options.device, torch.cuda.get_device_name(0))
    flashinfer = flashinfer_or_none()
    folder = options.output / device.name
    _write_header(folder, header(torch, flashinfer, device))
    if "launch" in operators:
        cases += launch_cases(model, degrees)
    cases += communication_cases(device.name, torch.cuda.device_count(), operators)
    outcome = _measure(Session(folder, device.name), cases, _Gpu(torch, flashinfer, model, cases), options)
    print(
        f"{folder}: {outcome.num_measured:,} measured, {outcome.num_known:,} known before, {outcome.num_skipped:,} "
        f"beyond the GPU's memory, {outcome.num_left:,} left by the time budget"
    )


def _measure(session: Session, cases: Sequence[Case], gpu: "_Gpu", options: argparse.Namespace) -> Outcome:
    columns = (TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("cases", total=len(cases))
        return session.run(cases, gpu.measure, options.time_budget_s, lambda count: bar.update(task, completed=count))


class _Gpu:
    """Measures cases on the GPU at hand."""

    def __init__(self, torch: Any, flashinfer: Any, model: Model, cases: Sequence[Case]) -> None:
        self._torch = torch
        self._model = model
        self._kernels = TorchKernels(torch, "cuda", flashinfer, model.gated_mlp)
        self._timer = CudaTimer(torch)
        self._cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size
        self._groups = [case for case in cases if case.family == "communication"]
        self._collectives: dict[Case, Any] = {}

    def measure(self, case: Case) -> Measured:
        """Measure one case."""
        library = f"torch {self._torch.__version__}"
        if case.family == "host":
            return Measured(measure_launch(case, self._model, self._kernels, self._torch), library)
        if case.family == "communication":
            return Measured(self._collective(case), library)
        prepared = self._kernels.prepare(case)
        copies = copies_beyond(self._cache_bytes, prepared.num_bytes)
        free, _ = self._torch.cuda.mem_get_info()
        if prepared.num_bytes * copies > MEMORY_SHARE * free:
            return Measured(None, prepared.kernel_library)
        sample = self._timer.measure(prepared.build, prepared.num_bytes)
        if copies < MOST_COPIES:
            self._torch.cuda.empty_cache()  # large buffers: leave the memory to the next ones
        return Measured(sample, prepared.kernel_library)

    def _collective(self, case: Case) -> Any:
        """All cases of as many GPUs are measured together: starting the processes takes longest."""
        if case not in self._collectives:
            same = [one for one in self._groups if one["num_gpus"] == case["num_gpus"]]
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


def _device(name: str | None, gpu: str) -> Device:
    name = NAMES.get(gpu) if name is None else name
    if name not in choices("device"):
        raise ValueError(f"{gpu}: say with --device which it is: {', '.join(choices('device'))}")
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
