"""Experiments of each figure and table of the paper."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simulator.reproduce import experiments
from simulator.reproduce import published as paper
from simulator.reproduce.experiments import TRACES, Overrides
from simulator.reproduce.published import CHAT, SCHEDULERS, SETTINGS, SLOS

# Resolution of the published capacities; smaller differences count as none.
RESOLUTION_QPS = 0.01
YI, FALCON = "Yi-34B", "Falcon-180B"


@dataclass(frozen=True)
class Job:
    """An experiment and its settings.

    Attributes:
        run: Function of `experiments`.
        arguments: Its arguments.
    """

    run: Callable[..., dict[str, float]]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """One number of the paper and its counterpart.

    Attributes:
        figure: Figure or table, for example "10" or "table 4".
        model: Model, as the paper names it.
        trace: Dataset; empty: none.
        slo: "strict", "relaxed" or a bound; empty: none.
        scheduler: Policy or layout; empty: none.
        metric: Metric with its unit.
        paper: Published value.
        simulated: Simulated value; NaN before the experiment has run.
    """

    figure: str
    model: str
    trace: str
    slo: str
    scheduler: str
    metric: str
    paper: float
    simulated: float = float("nan")

    @property
    def difference(self) -> float:
        """Relative error of the simulation; 0 within the resolution of a capacity."""
        off = self.simulated - self.paper
        within = self.metric == "capacity_qps" and abs(off) <= RESOLUTION_QPS + 1e-9
        return 0.0 if within else off / self.paper


@dataclass(frozen=True)
class Planned:
    """A row, and the experiment and its result that fill it."""

    row: Row
    job: Job
    figure: str


FIGURES = ("5", "6", "9", "10", "11", "12", "13", "14", "table 4")


def plan(figure: str, more: Overrides, seeds: int = 1) -> list[Planned]:
    """Return the rows of a figure and their experiments.

    Args:
        figure: One of FIGURES.
        more: Overrides for every experiment.
        seeds: Searches per capacity.
    """
    planners: Mapping[str, Callable[[], Iterator[Planned]]] = {
        "5": _figure_5,
        "6": _figure_6,
        "9": _figure_9,
        "10": lambda: _capacities("10"),
        "11": lambda: _capacities("11"),
        "12": _figure_12,
        "13": _figure_13,
        "14": _figure_14,
        "table 4": _table_4,
    }
    return [_with_overrides(row, more, seeds) for row in planners[figure]()]


def complete(planned: Sequence[Planned], results: Mapping[Job, dict[str, float]]) -> list[Row]:
    """Fill the rows with results and add speed-ups from the capacities."""
    rows = [replace(entry.row, simulated=results[entry.job][entry.figure]) for entry in planned]
    return [*rows, *_speedups(rows)]


def _with_overrides(planned: Planned, more: Overrides, seeds: int) -> Planned:
    overrides, *rest = planned.job.arguments
    if planned.job.run is experiments.capacity:
        more = (*more, f"capacity.seeds={seeds}")
    return replace(planned, job=replace(planned.job, arguments=((*overrides, *more), *rest)))


def _capacity(row: Row, slo: str, policy: str, *more: str) -> Planned:
    """Return a capacity of the paper and its search."""
    setting = SETTINGS[row.model]
    start = f"capacity.start_qps={setting.start_qps[row.trace]}"
    fixed = (f"deployment={setting.deployment}", f"experiment={policy}", f"slo=paper_{slo}", start)
    return Planned(row, Job(experiments.capacity, ((*fixed, *TRACES[row.trace], *more),)), "capacity_qps")


def _policy_of(model: str, slo: str, scheduler: str) -> str:
    setting = SETTINGS[model]
    sarathi = "sarathi_512" if slo == "strict" else setting.relaxed_sarathi
    return {"orca": setting.orca, "vllm": "vllm_128", "sarathi": sarathi}[scheduler]


def _capacities(figure: str) -> Iterator[Planned]:
    for (model, trace, slo), capacities in paper.CAPACITIES.items():
        if paper.FIGURE_OF[model] != figure:
            continue
        for scheduler, qps in zip(SCHEDULERS, capacities, strict=True):
            row = Row(figure, model, trace, slo, scheduler, "capacity_qps", qps)
            yield _capacity(row, slo, _policy_of(model, slo, scheduler))


def _speedups(rows: Sequence[Row]) -> Iterator[Row]:
    capacities = {(row.model, row.trace, row.slo, row.scheduler): row for row in rows if row.figure in ("10", "11")}
    for (model, trace, slo), labels in paper.SPEEDUPS.items():
        sarathi = capacities.get((model, trace, slo, "sarathi"))
        for scheduler, label in zip(("orca", "vllm"), labels, strict=True):
            baseline = capacities.get((model, trace, slo, scheduler))
            if sarathi is not None and baseline is not None:
                ratio = sarathi.simulated / baseline.simulated if baseline.simulated else float("inf")
                yield Row(sarathi.figure, model, trace, slo, "sarathi", f"speedup_over_{scheduler}", label, ratio)


def _figure_12() -> Iterator[Planned]:
    for model, by_bound in paper.FIGURE_12.items():
        for bound_s, capacities in by_bound.items():
            for policy, qps in zip(paper.FIGURE_12_POLICIES, capacities, strict=True):
                row = Row("12", model, CHAT, f"tbt_p99 <= {bound_s:g} s", policy, "capacity_qps", qps)
                yield _capacity(row, "strict", policy, f"slo.tbt_p99={bound_s}")


def _figure_13() -> Iterator[Planned]:
    layouts = {"TP8": ("parallel.tp=8", "parallel.pp=1"), "TP4-PP2": ("parallel.tp=4", "parallel.pp=2")}
    deployment = f"deployment={SETTINGS[FALCON].deployment}"
    for layout, values in paper.FIGURE_13_TBT.items():
        for batch, tbt_s in zip(paper.FIGURE_13_BATCHES, values, strict=True):
            load = (f"arrival.qps={paper.FIGURE_13_QPS}", f"scheduler.max_num_seqs={batch}", *experiments.PROTOCOL)
            overrides = (deployment, "experiment=sarathi_512", *TRACES[CHAT], *load, *layouts[layout])
            row = Row("13", FALCON, CHAT, "", f"{layout}, batch {batch}", "tbt_p50_s", tbt_s)
            yield Planned(row, Job(experiments.serving, (overrides,)), "tbt_s_p50")
    for slo, qps in paper.FIGURE_13_TP8.items():
        row = Row("13", FALCON, CHAT, slo, "vllm, TP8", "capacity_qps", qps)
        yield _capacity(row, slo, "vllm_128", *layouts["TP8"])
    for slo in SLOS:
        for scheduler, qps in zip(SCHEDULERS, paper.CAPACITIES[FALCON, CHAT, slo], strict=True):
            if scheduler != "orca":
                row = Row("13", FALCON, CHAT, slo, f"{scheduler}, TP4-PP2", "capacity_qps", qps)
                yield _capacity(row, slo, _policy_of(FALCON, slo, scheduler))
    job = Job(experiments.bubble, ((deployment,), 4096, 32, 4096))
    for metric, seconds in paper.SECTION_3_3.items():
        yield Planned(Row("13", FALCON, "", "", "TP4-PP2, section 3.3", metric, seconds), job, metric)


def _figure_14() -> Iterator[Planned]:
    for (prompt, chunk), ratio in paper.FIGURE_14.items():
        row = Row("14", YI, "", "", f"prompt {prompt}, chunk {chunk}", "chunked_over_whole", ratio)
        job = Job(experiments.chunking_overhead, ((f"deployment={SETTINGS[YI].deployment}",), prompt, chunk))
        yield Planned(row, job, "chunked_over_whole")


def _table_4() -> Iterator[Planned]:
    for (variant, trace), (ttft_s, tbt_s) in paper.TABLE_4.items():
        options = {
            "hybrid_batching_only": ("sarathi", "token_budget", (8192 if trace == CHAT else 16384,)),
            "chunked_prefills_only": ("chunked_prefills", "chunk_size", paper.TABLE_4_CHUNKS),
            "sarathi": ("sarathi", "token_budget", paper.TABLE_4_CHUNKS),
        }
        scheduler, option, sizes = options[variant]
        for size in sizes:
            name = variant if variant == "hybrid_batching_only" else f"{variant}, chunk {size}"
            load = (f"trace.num_requests={paper.TABLE_4_REQUESTS}", f"arrival.qps={paper.TABLE_4_QPS[trace]}")
            overrides = (f"deployment={SETTINGS[YI].deployment}", *TRACES[trace], *load, "metrics.zero_first_gap=true")
            policy = (f"scheduler={scheduler}", f"scheduler.{option}={size}")
            job = Job(experiments.serving, ((*overrides, *policy),))
            yield Planned(Row("table 4", YI, trace, "", name, "ttft_p50_s", ttft_s), job, "ttft_s_p50")
            yield Planned(Row("table 4", YI, trace, "", name, "tbt_p99_s", tbt_s), job, "tbt_s_p99")


def _figure_9() -> Iterator[Planned]:
    for model, by_size in paper.FIGURE_9.items():
        budget = paper.FIGURE_9_BUDGETS[model]
        for (batch, context), values in by_size.items():
            job = Job(experiments.hybrid_batch, (paper.FIGURE_9_DEPLOYMENTS[model], batch, context, budget))
            names = ("decode_only_ms", "decode_plus_chunk_ms", "decode_plus_full_ms")
            for metric, milliseconds in zip(names, values, strict=True):
                row = Row("9", model, "", "", f"batch {batch}, context {context}", metric, milliseconds)
                yield Planned(row, job, metric)


def _linear_layers(degree: int) -> Job:
    overrides = ("model=llama2_70b", "device=a100_80gb_sxm", f"parallel.tp={degree}")
    return Job(experiments.linear_layers, (overrides, (*paper.FIGURE_6, *paper.FIGURE_5_INTENSITY)))


def _figure_5() -> Iterator[Planned]:
    job = _linear_layers(4)
    for tokens, intensity in paper.FIGURE_5_INTENSITY.items():
        row = Row("5", "LLaMA2-70B", "", "", f"TP4, {tokens} tokens", "flop_per_byte", intensity)
        yield Planned(row, job, f"intensity_{tokens}")
    row = Row("5", "LLaMA2-70B", "", "", "TP4", "balance_tokens", paper.FIGURE_5_BALANCE_TOKENS)
    yield Planned(row, job, "balance_tokens")


def _figure_6() -> Iterator[Planned]:
    for tokens, values in paper.FIGURE_6.items():
        for degree, milliseconds in zip((2, 4), values, strict=True):
            row = Row("6", "LLaMA2-70B", "", "", f"TP{degree}, {tokens} tokens", "linear_ms", milliseconds)
            yield Planned(row, _linear_layers(degree), f"linear_ms_{tokens}")
