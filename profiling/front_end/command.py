"""`python -m profiling front-end`."""

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from profiling.front_end.client import Answer, Client, FrontEndError, Load
from profiling.front_end.cpu_time import CpuTime
from profiling.front_end.fit import fit
from profiling.front_end.processes import Cores, FrontEnd, running
from profiling.front_end.report import print_report, report_bytes
from profiling.front_end.summary import RunSummary, Window, summarize
from profiling.front_end.tokenizer import ServedModel, write_model
from traces.shared.atomic_files import write_atomic
from traces.shared.value_checks import integer, number

_SETTLING_S = 2.0  # of the warm-up, beyond the time of one answer
_ONE_TOKEN_RATE = 2  # rate of the run with outputs of one token, relative to the highest rate


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    command.add_argument("--rates", default="8,16,24", help="requests/s, comma-separated; default: 8,16,24")
    command.add_argument("--step-ms", type=float, default=20, help="time between two tokens; default: 20")
    command.add_argument("--output-tokens", type=int, default=246, help="tokens of an answer; default: 246")
    command.add_argument("--prompt-tokens", type=int, default=575, help="tokens of a prompt; default: 575")
    command.add_argument("--seconds", type=float, default=40, help="measured seconds of each run; default: 40")
    command.add_argument("--cores", metavar="SERVER,REST", help="cores of the server and of the rest; default: any")
    command.add_argument("--output", type=Path, required=True, help="JSON file that is written")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure vLLM's front end, print its costs and write them.

    Raises:
        ValueError: An option is invalid, vLLM is not installed, or the server cannot be measured.
    """
    loads, cores = _loads(options), Cores.of(options.cores)
    _require_vllm()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    runs = _measured(loads, options, cores)
    fitted = fit(runs)
    print_report(runs, fitted)
    settings = {name: value for name, value in vars(options).items() if name not in ("run", "output")}
    write_atomic(options.output, report_bytes(runs, fitted, settings))
    print(f"written to {options.output}")


def _loads(options: argparse.Namespace) -> list[Load]:
    """Return a load per rate, and one of single output tokens."""
    number("--step-ms", options.step_ms, 1, 1000)
    number("--seconds", options.seconds, 1, 3600)
    integer("--output-tokens", options.output_tokens, 2, 10_000)
    integer("--prompt-tokens", options.prompt_tokens, 1, 10_000)
    rates = [_rate(text) for text in options.rates.split(",")]
    if len(set(rates)) < 2:
        raise FrontEndError(f"--rates must be at least two different rates, got {options.rates}")
    warm_up_s = options.output_tokens * options.step_ms / 1000 + _SETTLING_S
    loads = [Load(rate, options.output_tokens, warm_up_s, options.seconds) for rate in rates]
    return [*loads, Load(_ONE_TOKEN_RATE * max(rates), 1, _SETTLING_S, options.seconds)]


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        raise FrontEndError(f"--rates must be numbers, got {text!r}") from None
    number("--rates", rate, 1, 1000)
    return rate


def _require_vllm() -> None:
    if importlib.util.find_spec("vllm") is None:
        raise FrontEndError("front-end needs vLLM: pip install vllm")
    if not Path("/proc/self/schedstat").exists():
        raise FrontEndError("front-end needs Linux, whose /proc/PID/schedstat has the CPU time of threads")


def _measured(loads: Sequence[Load], options: argparse.Namespace, cores: Cores) -> list[RunSummary]:
    """Start the front end, send it the loads and summarize each."""
    with TemporaryDirectory() as name, _pinned(cores.rest):
        print("training a tokenizer, starting vLLM", file=sys.stderr)
        model = write_model(Path(name), options.prompt_tokens, options.output_tokens)
        with running(model.folder, options.step_ms / 1000, cores) as front_end:
            measured = _send(loads, model, front_end)
            record = front_end.stop()
    return [summarize(load, *seen, record) for load, seen in zip(loads, measured, strict=True)]


@contextmanager
def _pinned(core: int) -> Iterator[None]:
    """Run this process on one core; on any if it is negative."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core < 0 else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _send(loads: Sequence[Load], model: ServedModel, front_end: FrontEnd) -> list[tuple[list[Answer], Window]]:
    """Send loads in turn; return the answers and window of each."""
    return importlib.import_module("uvloop").run(_sent(loads, model, front_end))  # type: ignore[no-any-return]


async def _sent(loads: Sequence[Load], model: ServedModel, front_end: FrontEnd) -> list[tuple[list[Answer], Window]]:
    client = Client(front_end.port, str(model.folder), model.prompts)
    measured = []
    for index, load in enumerate(loads, 1):
        _announce(f"run {index} of {len(loads)}", load)
        edges: list[tuple[float, CpuTime]] = []
        answers = await client.run(load, partial(_note_edge, edges, front_end.pid))
        (start_s, before), (end_s, after) = edges
        measured.append((answers, Window(start_s, end_s, after.since(before))))
    client.close()
    return measured


def _announce(name: str, load: Load) -> None:
    seconds = load.warm_up_s + load.seconds
    print(f"{name}: {load.rate:g} requests/s of {load.output_tokens} tokens, {seconds:.0f} s", file=sys.stderr)


def _note_edge(edges: list[tuple[float, CpuTime]], pid: int) -> None:
    """Add the time and the CPU time of a process."""
    edges.append((time.monotonic(), CpuTime.of(pid)))
