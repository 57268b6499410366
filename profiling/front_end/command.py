"""`python -m profiling front-end`."""

import importlib.util
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

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


@dataclass(frozen=True)
class Options:
    """The options of the command."""

    rates: str
    step_ms: float
    output_tokens: int
    prompt_tokens: int
    seconds: float
    cores: str | None


@click.command("front-end", help="Measure the CPU time and latencies of vLLM's API server.")
@click.option("--rates", default="8,16,24", show_default=True, help="Requests/s, comma-separated.")
@click.option("--step-ms", type=float, default=20, show_default=True, help="Time between two tokens.")
@click.option("--output-tokens", type=int, default=246, show_default=True, help="Tokens of an answer.")
@click.option("--prompt-tokens", type=int, default=575, show_default=True, help="Tokens of a prompt.")
@click.option("--seconds", type=float, default=40, show_default=True, help="Measured seconds of each run.")
@click.option("--cores", metavar="SERVER,REST", help="Cores of the server and of the rest.  [default: any]")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="JSON file that is written.")
def command(output: Path, **options: Any) -> None:
    """Run the command."""
    run(Options(**options), output)


def run(options: Options, output: Path) -> None:
    """Measure vLLM's front end, print its costs and write them.

    Raises:
        ValueError: An option is invalid, vLLM is not installed, or the server cannot be measured.
    """
    loads, cores = _loads(options), Cores.of(options.cores)
    _require_vllm()
    output.parent.mkdir(parents=True, exist_ok=True)
    runs = _measured(loads, options, cores)
    fitted = fit(runs)
    print_report(runs, fitted)
    write_atomic(output, report_bytes(runs, fitted, asdict(options)))
    print(f"written to {output}")


def _loads(options: Options) -> list[Load]:
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


def _measured(loads: Sequence[Load], options: Options, cores: Cores) -> list[RunSummary]:
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
