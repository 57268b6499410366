"""`python -m profiling campaign`: measure a GPU, record on it and validate.

Validation compares recordings of a serving engine with predictions fitted to the measurements.
"""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from profiling import options as shared
from profiling.device.environment import CUDA, flashinfer_or_none, name_of_device, require_torch
from profiling.measure.command import measure_device
from profiling.serving.command import summarize
from profiling.serving.recorder import Recorder
from profiling.serving.recording import RECORDING, Recording
from profiling.validate.command import validate_all
from simulator.config import load_config
from simulator.simulation import simulate
from traces import Trace
from traces.shared.value_checks import integer

if TYPE_CHECKING:
    from profiling.validate.fitted import Fitted

# Arrival rates, as shares of the predicted maximum throughput.
LOADS = {"light": 0.3, "busy": 0.8, "overload": 1.3}
SCHEDULERS = ("sarathi", "vllm")
# Batch sizes that serving engines capture: dense where batches are small.
GRAPH_SIZES = (1, 2, 4, *range(8, 129, 8))
# Requests in the run that predicts the maximum throughput of a deployment.
NUM_SATURATING = 400


@dataclass(frozen=True)
class Options:
    """The options of the command."""

    model: str
    shards: str
    output: Path
    on: str
    max_tokens: int | None
    measure_s: float
    record_s: float
    repeats: int
    token_budget: int
    overrides: tuple[str, ...]


@click.command("campaign", help="Measure a GPU, record on it and validate. KEY=VALUE: configuration of all recordings.")
@click.option("--model", required=True, help="One of configs/model; measured with tp=1 and recorded.")
@click.option("--shards", default="", help="Further MODEL:TP pairs to measure, comma-separated.")
@shared.output("Folder for measurements, recordings, validation.")
@shared.run_on
@shared.max_tokens
@click.option("--measure-s", type=float, default=240, show_default=True, help="Seconds for measurements.")
@click.option("--record-s", type=float, default=15, show_default=True, help="Seconds of arrivals per recording.")
@click.option("--repeats", type=int, default=1, show_default=True, help="Number of times to record.")
@click.option("--token-budget", type=int, default=512, show_default=True, help="Token budget of sarathi.")
@shared.overrides
def command(**options: Any) -> None:
    """Run the command."""
    run(Options(**options))


def run(options: Options) -> None:
    """Run the campaign; resume an earlier one in the same folder.

    --measure-s 0 makes no further measurements.

    Raises:
        ValueError: An option is invalid, or there is no GPU.
    """
    integer("--repeats", options.repeats, 1)
    from profiling.validate.fitted import Fitted  # needs scikit-learn, which must not be missed after measuring

    begin_s = time.monotonic()
    torch = require_torch(options.on)
    models = [(options.model, "1"), *_shards(options.shards)]
    budget_s = options.measure_s / len(models)
    for model, tp in models:
        max_tokens = options.max_tokens if model == options.model else None
        folder = measure_device(options.output / "measurements", model, tp, options.on, max_tokens, budget_s)
        _log(begin_s, f"{model} with tp={tp} measured")
    fitted = Fitted(folder)
    _log(begin_s, "fitted")
    recordings = []
    has_graphs = options.on == CUDA and flashinfer_or_none() is not None
    with torch.inference_mode():
        recorder = Recorder(torch, options.on)
        device = f"device={name_of_device(torch, options.on)}"
        planned = dict(_recordings(options, device, fitted, has_graphs))
        # Repeat the whole set, not each recording: repeats far apart in time show how much a device drifts.
        for repeat, name in product(range(1, options.repeats + 1), planned):
            path = options.output / "recordings" / folder.name / (f"{name}_{repeat}" if repeat > 1 else name)
            if not (path / RECORDING).exists():
                recorder.record(path.name, planned[name]).write(path)
            recordings.append(Recording.read(path))
            planned[name] = list(recordings[-1].overrides)  # an earlier run's rate
            _log(begin_s, f"{path.name}: {summarize(recordings[-1])}")
    validate_all(recordings, fitted, options.output / "validation")
    _log(begin_s, "done")


def _recordings(options: Options, device: str, fitted: "Fitted", has_graphs: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and overrides of each recording.

    Every policy and load is recorded without CUDA graphs and, if `has_graphs`, again with them.
    """
    common = [device, f"model={options.model}", "engine=torch_loop", "trace=sharegpt", *options.overrides]
    if options.on == CUDA:
        common.append("engine.hosts=null")  # the configuration has no host overhead of this machine
    if not any(override.startswith("kv_cache.num_blocks=") for override in common):
        common.append(f"kv_cache.num_blocks={_min_blocks(common)}")  # one engine serves all policies
    for graphs in (False, True)[: 1 + has_graphs]:
        sizes = f"[{','.join(map(str, GRAPH_SIZES if graphs else ()))}]"
        for scheduler in SCHEDULERS:
            chosen = [*common, f"scheduler={scheduler}", f"engine.decode_graph_sizes={sizes}"]
            if scheduler == "sarathi":
                chosen.append(f"scheduler.token_budget={options.token_budget}")
            max_qps = predict_max_qps(fitted, chosen)
            for load, share in LOADS.items():
                qps = float(f"{share * max_qps:.3g}")
                arrivals = [f"arrival.qps={qps}", f"trace.num_requests={max(20, math.ceil(qps * options.record_s))}"]
                yield f"{scheduler}_{load}{'_graphs' if graphs else ''}", [*chosen, *arrivals]


def _min_blocks(overrides: Sequence[str]) -> int:
    """Return the KV blocks that fit in memory with every policy."""
    deployments = [load_config(*overrides, f"scheduler={name}")["deployment"] for name in SCHEDULERS]
    return min(int(deployment.replica_specs()[0].num_blocks) for deployment in deployments)


def predict_max_qps(fitted: "Fitted", overrides: Sequence[str]) -> float:
    """Predict the maximum throughput of a deployment, requests per second.

    It is the throughput if all requests arrive at once.
    """
    arguments = load_config(*overrides, f"trace.num_requests={NUM_SATURATING}")
    trace, deployment = arguments["trace"], fitted.predicting(arguments["deployment"])
    at_once = Trace(trace.prompt_tokens, trace.output_tokens, np.zeros(len(trace.prompt_tokens)))
    completed_s = simulate(at_once, deployment).column("completed_s")
    return NUM_SATURATING / float(np.nanmax(completed_s))


def _shards(text: str) -> list[tuple[str, str]]:
    shards = [shard.partition(":") for shard in text.split(",") if shard]
    for model, _, tp in shards:
        if not tp.isdecimal():
            raise ValueError(f"--shards must be MODEL:TP pairs, comma-separated; {model!r} has no TP degree")
    return [(model, tp) for model, _, tp in shards]


def _log(begin_s: float, message: str) -> None:
    print(f"{time.monotonic() - begin_s:6.0f} s  {message}", file=sys.stderr, flush=True)
