"""`python -m simulator.search`: search for the cheapest deployment within the SLO."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from simulator.cli import Figures, as_written, hydra_command
from simulator.config import VERSION, ConfigError, named, resolved
from traces.shared.atomic_files import atomic_file

# Keys that the search chooses, and what to set instead.
_SEARCHED = {
    "device": "set search.devices=[...]; for other options add files of your own, see --config-dir",
    "parallel.tp": "set search.tp=[...]",
    "parallel.pp": "set search.pp=[...]",
    "parallel.stage_layers": "it depends on parallel.pp",
    "scheduler": "set search.schedulers=[...]; for other options add files of your own, see --config-dir",
    "cluster.replicas": "set search.max_gpus=N",
    "cluster.groups": "a search has one group",
    "cluster.node": "each device has its own node",
}

HELP = """\
Searches for the cheapest deployment that serves a load within its SLO: over devices, tensor and pipeline
parallelism, replicas, schedulers and token budgets. Candidates that cannot fit in memory, or miss the SLO even at
peak rates (roofline), are ruled out without simulation. Needs Optuna: pip install 'llm-serving-simulator[search]'.

  python -m simulator.search [key=value ...]
  python -m simulator.search model=llama2_70b trace=sharegpt arrival.qps=4 slo.tbt_p99=0.2 slo.ttft_p90=2
  python -m simulator.search slo.tbt_p99=0.1 search.trials=500 search.storage=search.journal

  arrival.qps=0.4              load, requests/s
  slo.METRIC_STATISTIC=SECONDS bounds, see `python -m simulator.capacity --help`; or slo=paper_strict |
                               paper_relaxed
  search.devices=[...]         a100_80gb | a100_80gb_sxm | a40 | h100_sxm | h200_sxm
  search.tp=[1,2,4,8]          tensor-parallel degrees
  search.pp=[1,2]              pipeline-parallel degrees
  search.schedulers=[sarathi,vllm,orca]
  search.token_budgets=[256,512,1024,2048]
                               for schedulers that have a token budget
  search.max_gpus=64           maximum number of GPUs, over all replicas
  search.trials=100            maximum number of trials; a space of at most this size is searched exhaustively
  search.storage=null          file for the trials, NAME.journal or sqlite:///NAME.db: resumes a stopped search
                               and lets several processes or machines share it

All other keys of `python -m simulator --help` work too, except those that the search chooses. Writes search.json,
search.csv (every simulated deployment) and search.png (cost against each objective).

Exit status: 0, 2 for invalid input or a failed job, 130 if interrupted."""


def main() -> None:
    """Run the command line."""
    hydra_command.run(_search, HELP, "search")


def _search(config: DictConfig, folder: Path) -> Figures:
    try:
        from simulator.search import cheapest
    except ModuleNotFoundError as error:
        raise ConfigError(f"python -m simulator.search needs {error.name}: pip install '.[search]'") from error
    from simulator.search.config import build_search
    from simulator.search.drawing import draw
    from simulator.search.report import print_search, summarize, write_table

    _reject_searched_keys(HydraConfig.get().overrides.task)
    task = build_search(config)
    bounds = task.slo.bounds()
    if not task.kept:
        first = task.pruned[0]
        raise ConfigError(f"all {len(task.pruned)} layouts are ruled out; {first.name}: {first.reason}")
    search = cheapest.Search(task.kept, task.policies, bounds, task.max_gpus, task.serve, task.problem)
    columns = (TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        trials_bar = bar.add_task("trials", total=min(task.trials, search.num_points))
        with named("search"):
            outcomes = search.run(
                task.trials, task.seed, task.storage, lambda count: bar.update(trials_bar, completed=count)
            )
    write_table(outcomes, bounds, folder / "search.csv")
    draw(outcomes, bounds, resolved(config), folder / "search.png")
    summary = summarize(task, outcomes, search.num_points)
    with atomic_file(folder / "search.json") as file:
        json.dump(summary | {"config": resolved(config), "version": VERSION}, file, indent=2, allow_nan=False)
        file.write("\n")
    console = Console()
    print_search(task, outcomes, summary["warnings"], console)
    console.print(f"written to {folder}", style="dim", soft_wrap=True, highlight=False, markup=False)
    best = summary["cheapest"] or {}
    return {name: value for name, value in best.items() if name not in ("values", "warnings")}


def _reject_searched_keys(overrides: Iterable[str]) -> None:
    """Check that no override sets a key that the search chooses."""
    for override in map(as_written, overrides):
        name = override.partition("=")[0]
        for searched, instead in _SEARCHED.items():
            if name == searched or name.startswith(f"{searched}."):
                raise ConfigError(f"{override}: {searched} is chosen by the search; {instead}")


if __name__ == "__main__":
    main()
