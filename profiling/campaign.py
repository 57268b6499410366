"""`python -m profiling campaign`: measures a GPU, records a serving engine on it, and compares with predictions."""

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from profiling.device.environment import CPU, CUDA, flashinfer_or_none, name_of_device, require_torch
from profiling.measure.command import measured_folder
from profiling.serving.command import described
from profiling.serving.recorder import Recorder
from profiling.serving.recording import RECORDING, Recording
from profiling.validate.command import validate_all
from profiling.validate.fitted import Fitted
from simulator.config import load_config
from simulator.simulation import simulate
from traces import Trace

# Shares of the requests per second that the engine is predicted to serve at most.
LOADS = {"light": 0.3, "busy": 0.8, "overload": 1.3}
SCHEDULERS = ("sarathi", "vllm")
# Sizes that serving engines capture: dense where batches are small.
GRAPH_SIZES = (1, 2, 4, *range(8, 129, 8))
# Requests that tell the most throughput of a deployment.
NUM_SATURATING = 400


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    command.add_argument("--model", required=True, help="one of configs/model: measured with tp=1, and recorded")
    command.add_argument("--shards", default="", help="further MODEL:TP to measure, comma-separated")
    command.add_argument("--output", type=Path, required=True, help="folder for measurements, recordings, validation")
    command.add_argument("--on", choices=(CUDA, CPU), default=CUDA, help="what computes; default: cuda")
    command.add_argument("--max-tokens", type=int, help="largest number of tokens; default: the model's maximum")
    command.add_argument("--measure-s", type=float, default=240, help="seconds of measuring; default: 240")
    command.add_argument("--record-s", type=float, default=15, help="seconds of arrivals in a recording; default: 15")
    command.add_argument("--repeats", type=int, default=1, help="times that all recordings are made; default: 1")
    command.add_argument("--token-budget", type=int, default=512, help="of sarathi, tokens; default: 512")
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="configuration of all recordings")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do all of it; what is there already of an earlier run is not done again, and --measure-s 0 measures no more.

    Raises:
        ValueError: An option is wrong, or there is no GPU.
    """
    if options.repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {options.repeats}")
    begin_s = time.monotonic()
    torch = require_torch(options.on)
    models = [(options.model, "1"), *_shards(options.shards)]
    budget_s = options.measure_s / len(models)
    for model, tp in models:
        most_tokens = options.max_tokens if model == options.model else None
        folder = measured_folder(options.output / "measurements", model, tp, options.on, most_tokens, budget_s)
        _say(begin_s, f"{model} with tp={tp} measured")
    fitted = Fitted(folder)
    _say(begin_s, "fitted")
    recordings = []
    has_graphs = options.on == CUDA and flashinfer_or_none() is not None
    with torch.inference_mode():
        recorder = Recorder(torch, options.on)
        device = f"device={name_of_device(torch, options.on)}"
        planned = dict(_recordings(options, device, fitted, has_graphs))
        # All of them, and then all again: repeats that lie apart tell how much a device changes.
        for number, name in product(range(1, options.repeats + 1), planned):
            path = options.output / "recordings" / folder.name / (f"{name}_{number}" if number > 1 else name)
            if not (path / RECORDING).exists():
                recorder.record(path.name, planned[name]).write(path)
            recordings.append(Recording.read(path))
            planned[name] = list(recordings[-1].overrides)  # of an earlier run, at another rate: so are its repeats
            _say(begin_s, f"{path.name}: {described(recordings[-1])}")
    validate_all(recordings, fitted, options.output / "validation")
    _say(begin_s, "done")


def _recordings(
    options: argparse.Namespace, device: str, fitted: Fitted, has_graphs: bool
) -> Iterator[tuple[str, list[str]]]:
    """Yield name and configuration of each recording: policies at three loads, without CUDA graphs and with them."""
    common = [device, f"model={options.model}", "engine=torch_loop", "trace=sharegpt", *options.overrides]
    if options.on == CUDA:
        common.append("engine.hosts=null")  # measured here for the first time, and not in its configuration
    if not any(one.startswith("kv_cache.num_blocks=") for one in common):
        common.append(f"kv_cache.num_blocks={_fewest_blocks(common)}")  # one engine serves all policies
    for graphs in (False, True)[: 1 + has_graphs]:
        sizes = f"[{','.join(map(str, GRAPH_SIZES if graphs else ()))}]"
        for scheduler in SCHEDULERS:
            chosen = [*common, f"scheduler={scheduler}", f"engine.decode_graph_sizes={sizes}"]
            if scheduler == "sarathi":
                chosen.append(f"scheduler.token_budget={options.token_budget}")
            most_qps = most_requests_per_s(fitted, chosen)
            for load, share in LOADS.items():
                qps = float(f"{share * most_qps:.3g}")
                arrivals = [f"arrival.qps={qps}", f"trace.num_requests={max(20, math.ceil(qps * options.record_s))}"]
                yield f"{scheduler}_{load}{'_graphs' if graphs else ''}", [*chosen, *arrivals]


def _fewest_blocks(overrides: Sequence[str]) -> int:
    """KV blocks that fit the memory with any of the policies."""
    deployments = [load_config(*overrides, f"scheduler={one}")["deployment"] for one in SCHEDULERS]
    return min(int(one.replica_specs()[0].num_blocks) for one in deployments)


def most_requests_per_s(fitted: Fitted, overrides: Sequence[str]) -> float:
    """Requests per second that a deployment is predicted to finish if they all arrive at once."""
    arguments = load_config(*overrides, f"trace.num_requests={NUM_SATURATING}")
    trace, deployment = arguments["trace"], fitted.predicting(arguments["deployment"])
    at_once = Trace(trace.prompt_tokens, trace.output_tokens, np.zeros(len(trace.prompt_tokens)))
    completed_s = simulate(at_once, deployment).column("completed_s")
    return NUM_SATURATING / float(np.nanmax(completed_s))


def _shards(text: str) -> list[tuple[str, str]]:
    found = [one.partition(":") for one in text.split(",") if one]
    for model, _, tp in found:
        if not tp.isdecimal():
            raise ValueError(f"--shards must be MODEL:TP, comma-separated, got {model!r} without a number of GPUs")
    return [(model, tp) for model, _, tp in found]


def _say(begin_s: float, what: str) -> None:
    print(f"{time.monotonic() - begin_s:6.0f} s  {what}", file=sys.stderr, flush=True)
