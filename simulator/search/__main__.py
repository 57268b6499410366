"""`python -m simulator.search`: the cheapest deployment within the SLO."""

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
from traces.shared.whole_files import whole_file

_SCHEDULERS = "say search.schedulers=[...]; other settings are files of your own, see --config-dir"
# What a search decides, and where to say what it may choose.
_SEARCHED = {
    "device": "say search.devices=[...]; other settings are files of your own, see --config-dir",
    "parallel.tp": "say search.tp=[...]",
    "parallel.pp": "say search.pp=[...]",
    "parallel.stage_layers": "it depends on the degrees",
    "scheduler": _SCHEDULERS,
    "cluster.replicas": "say search.max_gpus=N",
    "cluster.groups": "a search has one group",
    "cluster.node": "each device has its own",
}

HELP = """\
Searches for the cheapest deployment that carries a load within its SLO: over devices, tensor and pipeline
parallelism, replicas, schedulers and token budgets. What cannot win by its memory or by a roofline at the peaks is
left out before anything is simulated. Needs Optuna: pip install 'llm-serving-simulator[search]'.

  python -m simulator.search [key=value ...]
  python -m simulator.search model=llama2_70b trace=sharegpt arrival.qps=4 slo.tbt_p99=0.2 slo.ttft_p90=2
  python -m simulator.search slo.tbt_p99=0.1 search.trials=500 search.storage=search.journal

  arrival.qps=0.4              load to be carried, requests/s
  slo.METRIC_STATISTIC=SECONDS bounds, as in `python -m simulator.capacity --help`; or slo=paper_strict |
                               paper_relaxed
  search.devices=[...]         a100_80gb | a100_80gb_sxm | a40 | h100_sxm | h200_sxm
  search.tp=[1,2,4,8]          tensor-parallel degrees
  search.pp=[1,2]              pipeline-parallel degrees
  search.schedulers=[sarathi,vllm,orca]
  search.token_budgets=[256,512,1024,2048]
                               token budgets of schedulers that have one
  search.max_gpus=64           GPUs at most, all replicas together
  search.trials=100            proposals in all; a space of no more is walked through
  search.storage=null          NAME.journal or sqlite:///NAME.db keeps the trials: a search that was stopped
                               goes on, and several processes or machines share one

and everything of `python -m simulator --help` but what is searched. Writes search.json, search.csv (every
deployment that was tried) and search.png (cost against each objective).

Exit status: 0, 2 for a mistake in the input or a failed job, 130 if interrupted."""


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

    _refuse_what_is_searched(HydraConfig.get().overrides.task)
    task = build_search(config)
    bounds = task.slo.bounds()
    if not task.kept:
        first = task.pruned[0]
        raise ConfigError(f"no deployment can win; the first of {len(task.pruned)}, {first.name}: {first.reason}")
    search = cheapest.Search(task.kept, task.policies, bounds, task.max_gpus, task.serve, task.problem)
    columns = (TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        shown = bar.add_task("trials", total=min(task.trials, search.num_points))
        with named("search"):
            outcomes = search.run(
                task.trials, task.seed, task.storage, lambda count: bar.update(shown, completed=count)
            )
    write_table(outcomes, bounds, folder / "search.csv")
    draw(outcomes, bounds, folder / "search.png")
    summary = summarize(task, outcomes, search.num_points)
    with whole_file(folder / "search.json") as file:
        json.dump(summary | {"config": resolved(config), "version": VERSION}, file, indent=2, allow_nan=False)
        file.write("\n")
    console = Console()
    print_search(task, outcomes, summary["warnings"], console)
    console.print(f"written to {folder}", style="dim", soft_wrap=True, highlight=False, markup=False)
    best = summary["cheapest"] or {}
    return {name: value for name, value in best.items() if name not in ("values", "warnings")}


def _refuse_what_is_searched(overrides: Iterable[str]) -> None:
    """Check that nothing is set that the search decides: it would not be what was asked for."""
    for override in map(as_written, overrides):
        name = override.partition("=")[0]
        for searched, instead in _SEARCHED.items():
            if name == searched or name.startswith(f"{searched}."):
                raise ConfigError(f"{override}: {searched} is searched; {instead}")


if __name__ == "__main__":
    main()
