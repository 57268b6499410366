"""`python -m simulator.search`: search for the cheapest deployment within the SLO."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from simulator.cli import Figures, as_written, hydra_command
from simulator.config import ConfigError, description, named
from simulator.launch import with_launch
from simulator.plot import cost_against_latency, save, set_search_title
from simulator.search.config import SearchTask, build_search
from simulator.search.outcomes import Candidate, Outcome
from simulator.search.report import priced, print_search, summarize, write_table
from simulator.search.results_file import ResultsFile
from simulator.search.walk import Walk, walk
from traces.shared.atomic_files import write_json
from traces.shared.terminal import note

# Keys that the search chooses, and what to set instead.
_SEARCHED = {
    "device": "set search.devices=[...]; for other options add files of your own, see --config-dir",
    "parallel.tp": "set search.tp=[...]",
    "parallel.pp": "set search.pp=[...]",
    "parallel.stage_layers": "it depends on parallel.pp",
    "cluster.replicas": "set search.max_gpus=N",
    "cluster.groups": "a search has one group",
    "cluster.node": "each device has its own node",
}
_BUDGET = "its default and search.token_budgets=[...] are searched"
_SEARCHED |= {"scheduler.token_budget": _BUDGET, "scheduler.max_num_batched_tokens": _BUDGET}
_SCHEDULERS = "search.schedulers lists them; for other options add files of your own, see --config-dir"

HELP = """\
Searches for the cheapest deployment that serves a load within its SLO: over devices, tensor and pipeline
parallelism, replicas and token budgets, each device with its own engine and defaults. Candidates that cannot fit
in memory, or miss the SLO even at peak rates (roofline), are ruled out without simulation.

  python -m simulator.search [key=value ...]
  python -m simulator.search model=llama2_70b trace=sharegpt arrival.qps=4 slo.tbt_p99=0.2 slo.ttft_p90=2
  python -m simulator.search slo.tbt_p99=0.1 search.trials=500 search.storage=search.jsonl

  arrival.qps=0.4              load, requests/s
  slo.METRIC_STATISTIC=SECONDS bounds, see `python -m simulator.capacity --help`; or slo=paper_strict |
                               paper_relaxed
  deployment=NAME              start: its model, scheduler and engine
  scheduler=vllm_v1            and its options; or several: search.schedulers=[sarathi,vllm,orca]
  search.devices=[...]         files of configs/device that have a price
  search.tp=[1,2,4,8]          tensor-parallel degrees
  search.pp=[1,2]              pipeline-parallel degrees
  search.token_budgets=[512,2048,8192]
                               besides the engine's default on the device, for schedulers that have one
  search.max_gpus=64           maximum number of GPUs, over all replicas
  search.trials=300            maximum number of simulated deployments; the cheapest ones come first
  search.storage=null          file NAME.jsonl for them: resumes a stopped search and lets several processes or
                               machines share it

All other keys of `python -m simulator --help` work too, except those that the search chooses. Prints the cheapest
deployment, the command that launches it, and its cost. Writes search.json,
search.csv (every simulated deployment) and search.png (cost against each objective).

Exit status: 0, 2 for invalid input or a failed job, 130 if interrupted."""


def main() -> None:
    """Run the command line."""
    hydra_command.run(_search, HELP, "search", read_launch=with_launch)


def _search(config: DictConfig, folder: Path) -> Figures:
    overrides = list(HydraConfig.get().overrides.task)
    _reject_searched_keys(overrides, config)
    task = build_search(config, overrides)
    bounds = task.slo.bounds()
    if not task.kept:
        first = task.pruned[0]
        raise ConfigError(f"no layout is left of {len(task.pruned)}; {first.name}: {first.reason}")
    walked = _walk(task)
    write_table(walked.outcomes, bounds, folder / "search.csv")
    summary = summarize(task, walked) | description(config, [])
    figure = cost_against_latency(list(priced(walked.outcomes, walked.outcomes, bounds)), bounds)
    set_search_title(figure, summary)
    save(figure, folder / "search.png")
    write_json(folder / "search.json", summary)
    console = Console()
    print_search(task, walked, summary["warnings"], console)
    note(console, f"written to {folder}")
    best = summary["cheapest"] or {}
    return {name: value for name, value in best.items() if name not in ("values", "warnings")}


def _walk(task: SearchTask) -> Walk:
    """Walk through the deployments, those in the storage without simulating them."""
    with named("search.storage", "="):
        file = None if task.storage is None else ResultsFile(task.storage, task.identity)
    if file is not None and file.was_cut:
        note(Console(stderr=True), f"{task.storage}: its last line is incomplete and was removed")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        shown = bar.add_task("trials", total=task.trials)

        def evaluate(candidates: Sequence[Candidate]) -> Outcome:
            outcome = task.simulate(candidates[0]) if file is None else file.evaluate(candidates, task.simulate)
            bar.update(shown, advance=1, description=f"${outcome.cost_per_hour_usd:,.2f}/h")
            return outcome

        with named("search", ": "):
            return walk(task.kept, task.slo.bounds(), evaluate, task.trials)


def _reject_searched_keys(overrides: Iterable[str], config: DictConfig) -> None:
    """Check that no override sets a key that the search chooses."""
    listed = {} if OmegaConf.select(config, "search.schedulers") is None else {"scheduler": _SCHEDULERS}
    for override in map(as_written, overrides):
        name = override.partition("=")[0]
        for searched, instead in (_SEARCHED | listed).items():
            if name == searched or name.startswith(f"{searched}."):
                raise ConfigError(f"{override}: {searched} is chosen by the search; {instead}")


if __name__ == "__main__":
    main()
