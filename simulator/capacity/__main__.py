"""`python -m simulator.capacity`: the highest request rate within the SLO."""

import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from simulator.capacity.bisection import Capacity, Trial, find_capacity
from simulator.capacity.config import CapacityTask, build_capacity
from simulator.capacity.report import print_capacity, summarize
from simulator.cli import WARNINGS_JOINT, Figures, as_written, hydra_command
from simulator.config import ConfigError, description, named
from simulator.launch import planning_lines, with_launch
from traces.shared.atomic_files import write_json
from traces.shared.terminal import note, show

HELP = """\
Searches for the capacity of a deployment: the highest request rate within its SLO.

  python -m simulator.capacity [key=value ...]
  python -m simulator.capacity scheduler=vllm trace=sharegpt slo=relaxed
  python -m simulator.capacity slo.tbt_p99=0.2 slo.ttft_p90=2 capacity.seeds=5
  python -m simulator.capacity -m scheduler=vllm,orca,sarathi slo=strict,relaxed hydra/launcher=joblib

  slo.METRIC_STATISTIC=SECONDS bound: metric tbt | ttft | tpot | e2e | scheduling_delay; statistic mean | max |
                               p50 | p99 | p99.9 | ...; null removes it. Only the bounds given here apply;
                               without any, those of slo=strict
  slo.goodput=0.9              least share of requests that are each within their bounds: those of
                               slo.{ttft,tpot,e2e}=SECONDS, and of percentiles of these from p90 on
  slo=none                     strict | relaxed: P99 TBT of at most 5 | 25 simulated decode iterations of 32
                               requests with 4,096 tokens; paper_strict | paper_relaxed: the published
                               bounds of Mistral-7B, Yi-34B, LLaMA2-70B and Falcon-180B; all with a
                               median scheduling delay of at most 2 s
  capacity.start_qps=null      first rate, requests/s; null: where prefills alone take half of the time
  capacity.resolution_qps=0.01 rates are multiples of this
  capacity.granularity=0.025   stop when the bracket is narrower than this fraction of the rate
  capacity.max_trials=20       maximum number of trials
  capacity.seeds=1             number of searches, with seeds seed, seed + 1, ...; reports their mean and its
                               confidence interval
  trace.num_requests=2048      requests per trial
  time_limit_s=1800            simulated seconds per trial
  metrics.zero_first_gap=false count a TBT of 0 s for each first token, as Sarathi-Serve's artifact does
  deployment=null              preset of model, device and parallelism: mistral_7b_a100 | yi_34b_a100_tp2 |
                               llama2_70b_a40_tp4_pp2 | falcon_180b_a100_tp4_pp2 | vllm_v1_llama3_8b_h100
  experiment=null              preset of scheduler options: orca_8 | orca_16 | vllm_128 | sarathi_512 |
                               sarathi_1536 | sarathi_2048 | ...

All other keys of `python -m simulator --help` work too, except arrival.qps. Writes capacity.json. A sweep (-m)
writes sweep.csv, one row per job; rerun with the same hydra.sweep.dir, it runs only the missing jobs.

Exit status: 0, 2 for invalid input or a failed job, 130 if interrupted."""


def main() -> None:
    """Run the command line."""
    hydra_command.run(_capacity, HELP, "capacity", read_launch=with_launch)


def _capacity(config: DictConfig, folder: Path) -> Figures:
    if any(as_written(override).startswith("arrival.qps=") for override in HydraConfig.get().overrides.task):
        raise ConfigError("arrival.qps is the result of the search; set capacity.start_qps for its first rate")
    task = build_capacity(config)
    with named(""):
        capacities = search(task)
    summary = summarize(task, capacities)
    summary |= description(config, task.experiment.deployment)
    write_json(folder / "capacity.json", summary)
    console = Console()
    print_capacity(summary, console)
    experiment, requests = task.experiment, task.experiment.workload.requests(task.seeds[0])
    lines = planning_lines(experiment.deployment, config.model.get("path"), summary["capacity_qps"], requests)
    show(console, *lines)
    note(console, f"written to {folder}")
    return figures(summary)


def search(task: CapacityTask) -> list[Capacity]:
    """Search with each seed; show progress on a terminal.

    Raises:
        ValueError: A trace cannot be read, or the deployment does not fit its nodes.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    hidden = not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as bar:
        search_bar = bar.add_task("searching")

        def show(trial: Trial) -> None:
            bar.update(search_bar, description=f"{trial.qps:g} requests/s: {'missed' if trial.missed else 'met'}")

        return [find_capacity(task.experiment.trials(seed), task.search, show) for seed in task.seeds]


def figures(summary: dict[str, Any]) -> Figures:
    """Return the columns of a search in sweep.csv."""
    low, high = summary["confidence_interval_qps"] or (None, None)
    best = summary["at_capacity"] or {"goodput": None, "goodput_qps": None, "values": {}}
    return {
        "capacity_qps": summary["capacity_qps"],
        "confidence_low_qps": low,
        "confidence_high_qps": high,
        "binding": summary["binding"],
        "goodput": best["goodput"],
        "goodput_qps": best["goodput_qps"],
        "warnings": WARNINGS_JOINT.join(summary["warnings"]),
        **best["values"],
    }


if __name__ == "__main__":
    main()
