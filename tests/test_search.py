"""The cheapest deployment within an SLO."""

import csv
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.cluster import Deployment
from simulator.config import load_config
from simulator.launch import read_words
from simulator.results import SLO
from simulator.search import Load, Option, Space, fewest_replicas, options, pareto, ruled_out
from simulator.simulation import simulate
from tests.helpers import command

study = pytest.importorskip("simulator.search.cheapest", reason="optuna is not installed")
load_search = pytest.importorskip("simulator.search.config", reason="optuna is not installed").load_search


def option(name: str, price: float = 1.0, fewest: int = 1) -> Option:
    return Option(name, name, 1, 1, fewest_replicas=fewest, price_per_hour_usd=price, token_budgets={"vllm": []})


def deployment(*overrides: str) -> Deployment:
    loaded: Deployment = load_config(*overrides, "trace.num_requests=1")["deployment"]
    return loaded


def outcomes_of(needed: Mapping[str, int], prices: Mapping[str, float], trials: int, **settings: Any) -> Any:
    """Search among devices that meet 1 s with `needed` replicas; latency is needed / replicas."""
    served: list[Any] = []

    def serve(candidate: Any) -> Any:
        served.append(candidate)
        if len(served) == settings.get("killed_after"):
            raise KeyboardInterrupt
        return study.Served({"tbt_p99": needed[candidate.option.device] / candidate.replicas}, keeps_up=True)

    kept = [option(name, prices[name]) for name in needed]
    search = study.Search(kept, {"tbt_p99": 1.0}, 64, serve, settings.get("problem", {}))
    return search.run(trials, 0, settings.get("storage"), lambda _: None), served


def test_the_search_finds_the_fewest_replicas_within_the_slo_for_each_layout() -> None:
    outcomes, _ = outcomes_of({"slow": 13, "fast": 3}, {"slow": 1.0, "fast": 5.0}, 10)
    within = [outcome for outcome in outcomes if outcome.met]
    assert min(outcome.replicas for outcome in within if outcome.device == "slow") == 13
    assert min(outcome.replicas for outcome in within if outcome.device == "fast") == 3
    assert min(outcome.cost_per_hour_usd for outcome in within) == 13


def test_candidates_far_above_the_cheapest_cost_are_not_simulated() -> None:
    _, served = outcomes_of({"cheap": 2, "dear": 2}, {"cheap": 1.0, "dear": 100.0}, 10)
    last_cheap = max(index for index, candidate in enumerate(served) if candidate.option.name == "cheap")
    assert all(candidate.option.name == "cheap" for candidate in served[last_cheap:])
    _, alone = outcomes_of({"dear": 40}, {"dear": 1.0}, 10)
    assert max(candidate.replicas for candidate in alone) <= 64


@pytest.mark.parametrize("storage", ["{folder}/search.journal", "sqlite:///{folder}/search.db"])
def test_a_search_resumes_from_its_storage(storage: str, tmp_path: Path) -> None:
    where = storage.format(folder=tmp_path)
    needed, prices = dict.fromkeys("abcdef", 5), dict.fromkeys("abcdef", 1.0)
    first, served = outcomes_of(needed, prices, 2, storage=where)
    assert served
    everything, more = outcomes_of(needed, prices, 6, storage=where)
    assert {outcome.device for outcome in first} <= {outcome.device for outcome in everything}
    assert not {candidate.option.name for candidate in served} & {candidate.option.name for candidate in more}
    repeated, served_again = outcomes_of(needed, prices, 6, storage=where)
    assert served_again == []
    assert repeated == everything
    _, served_anew = outcomes_of(needed, prices, 6, storage=where, problem={"seed": 1})
    assert served_anew != []


@pytest.mark.parametrize("trials", [8, 20])
def test_an_interrupted_search_still_tries_every_proposal_of_a_small_space(trials: int, tmp_path: Path) -> None:
    where = f"{tmp_path}/search.journal"
    needed, prices = dict.fromkeys("abcdefgh", 1), dict.fromkeys("abcdefgh", 1.0)
    with pytest.raises(KeyboardInterrupt):
        outcomes_of(needed, prices, trials, storage=where, killed_after=3)
    outcomes, served = outcomes_of(needed, prices, trials, storage=where)
    assert {outcome.device for outcome in outcomes} == set(needed)
    assert len(served) == 6


def test_a_resumed_search_of_a_large_space_tries_new_proposals(tmp_path: Path) -> None:
    where = f"{tmp_path}/search.journal"
    names = [f"d{number}" for number in range(60)]
    needed, prices = dict.fromkeys(names, 1), dict.fromkeys(names, 1.0)
    _, first = outcomes_of(needed, prices, 12, storage=where)
    everything, more = outcomes_of(needed, prices, 24, storage=where)
    assert len(first) == len(more) == 12
    assert len({outcome.device for outcome in everything}) == 24


def test_the_pareto_front_leaves_out_options_that_were_not_simulated() -> None:
    outcomes, _ = outcomes_of({"dear": 1, "cheap": 2}, {"dear": 50.0, "cheap": 1.0}, 4)
    assert {outcome.device for outcome in pareto(outcomes, "tbt_p99")} == {"cheap"}


def test_a_deployment_whose_queue_grows_without_end_is_not_within_the_slo() -> None:
    def serve(candidate: Any) -> Any:
        return study.Served({"tbt_p99": 0.1}, keeps_up=candidate.replicas >= 7)

    search = study.Search([option("a")], {"tbt_p99": 1.0}, 64, serve, {})
    outcomes = search.run(1, 0, None, lambda _: None)
    assert min(outcome.replicas for outcome in outcomes if outcome.met) == 7


def test_nothing_beats_the_pareto_front_in_both_cost_and_latency() -> None:
    outcomes, _ = outcomes_of({"a": 8, "b": 2}, {"a": 1.0, "b": 6.0}, 4)
    front = pareto(outcomes, "tbt_p99")
    costs = [outcome.cost_per_hour_usd for outcome in front]
    latencies = [outcome.values["tbt_p99"] for outcome in front]
    assert costs == sorted(set(costs))
    assert latencies == sorted(set(latencies), reverse=True)
    for outcome in outcomes:
        if outcome.met:
            assert any(
                best.cost_per_hour_usd <= outcome.cost_per_hour_usd
                and best.values["tbt_p99"] <= outcome.values["tbt_p99"]
                for best in front
            )


@pytest.mark.parametrize(
    "layout", [("mistral_7b", "a100_80gb", 1), ("llama2_70b", "h100_sxm", 4), ("mistral_7b", "a40", 2)]
)
def test_no_run_beats_the_bounds(layout: tuple[str, str, int]) -> None:
    model, device, tp = layout
    arguments = load_config(
        f"model={model}",
        f"device={device}",
        f"parallel.tp={tp}",
        "trace=sharegpt",
        "trace.num_requests=60",
        "arrival.qps=1000",
        "engine=none",
    )
    result = simulate(**arguments)
    candidate = arguments["deployment"]
    load = Load.of(arguments["trace"], 1.0)
    # The bound must allow the rate at which a replica that is never idle serves requests.
    per_s = 60 / result.summary["makespan_s"]
    assert fewest_replicas(candidate, Load(1000 * per_s, *list(vars(load).values())[1:])) <= 1000
    values = SLO.of({"tbt_p50": 1, "ttft_p99": 1}).values(result)
    assert (
        ruled_out(candidate, SLO.of({"tbt_p50": values["tbt_p50"] or 0, "ttft_p99": values["ttft_p99"] or 0}), load)
        == ""
    )
    assert "weights" in ruled_out(candidate, SLO.of({"tbt_p50": 1e-5}), load)
    assert "prompt" in ruled_out(candidate, SLO.of({"ttft_p99": 1e-5}), load)


def test_layouts_that_cannot_meet_the_slo_are_ruled_out_with_a_reason() -> None:
    def build(device: str, tp: int, pp: int, scheduler: str) -> Deployment:
        layout = (f"parallel.tp={tp}", f"parallel.pp={pp}", f"scheduler={scheduler}")
        return deployment("model=llama2_70b", f"device={device}", *layout)

    load = Load(1.0, 3000, 1e6, 400, 1e6, np.array([100, 2000]))
    slo = SLO.of({"tbt_p99": 0.2})
    space = Space(("a40", "h100_sxm"), (1, 4), (1,), ("sarathi",), (512,), 64)
    kept, pruned = options(space, slo, load, build)
    assert [layout.name for layout in kept] == ["a40 tp4 pp1", "h100_sxm tp4 pp1"]
    assert all("does not fit" in layout.reason for layout in pruned)
    none, pruned = options(Space(("a40",), (4,), (1,), ("sarathi",), (512,), 2), slo, load, build)
    assert none == []
    assert "search.max_gpus" in pruned[0].reason


@pytest.mark.parametrize("device", ["a100_80gb", "h100_sxm", "h200_sxm", "l40s"])
def test_the_engine_s_defaults_on_each_device_are_among_the_candidates(device: str) -> None:
    given = ("model=llama3_8b", "slo.tbt_p99=1", "trace.num_requests=5", "search.token_budgets=[512]")
    task = load_search(*given, "search.devices=[a100_80gb,h100_sxm,h200_sxm,l40s]", "search.tp=[1,2]", "search.pp=[1]")
    default = deployment("model=llama3_8b", "scheduler=vllm_v1", f"device={device}", "parallel.tp=2")
    (kept,) = [kept for kept in task.kept if (kept.device, kept.tp) == (device, 2)]
    budget, *others = kept.token_budgets["vllm_v1"]
    assert task.deployment(device, 2, 1, "vllm_v1", budget, 1) == default
    assert others == [512]
    few = vars(task.deployment(device, 2, 1, "vllm_v1", 512, 3).scheduler)
    assert few["max_num_seqs"] == min(vars(default.scheduler)["max_num_seqs"], few["max_num_batched_tokens"])


def test_each_device_and_policy_has_its_own_engine() -> None:
    devices, policies = "search.devices=[a100_80gb,l40s]", "search.schedulers=[sarathi,vllm_v1]"
    task = load_search("slo.tbt_p99=1", "trace.num_requests=5", "search.tp=[1]", "search.pp=[1]", devices, policies)
    for device in ("a100_80gb", "l40s"):
        for policy in ("sarathi", "vllm_v1"):
            expected = deployment(f"device={device}", f"scheduler={policy}")
            assert task.build(device, 1, 1, policy) == expected


def test_one_layout_and_one_deployment_are_in_the_singular(tmp_path: Path) -> None:
    one = ("search.devices=[h100_sxm]", "search.tp=[1]", "search.pp=[1]", "search.trials=1", "trace.num_requests=5")
    done = command(tmp_path, "simulator.search", "model=llama3_8b", *one, "slo.tbt_p99=1", "hydra.run.dir=out")
    assert "1 layout searched, 0 ruled out; 1 deployment simulated" in done.stdout.splitlines()


def test_a_search_starts_from_a_deployment() -> None:
    few = ("slo.tbt_p99=1", "trace.num_requests=5", "search.devices=[a100_80gb_sxm]", "search.tp=[2]", "search.pp=[1]")
    task = load_search("deployment=vllm_v1_llama3_8b_h100", "kv_cache.prefix_caching=false", *few)
    given = ("model=llama3_8b", "scheduler=vllm_v1", "device=a100_80gb_sxm", "kv_cache.prefix_caching=false")
    assert task.build("a100_80gb_sxm", 2, 1, "vllm_v1") == deployment(*given, "parallel.tp=2")


def test_defaults_are_tried_first_in_a_large_space() -> None:
    served: list[Any] = []

    def serve(candidate: Any) -> Any:
        served.append((candidate.option.name, candidate.token_budget))
        return study.Served({"tbt_p99": 0.1}, keeps_up=True)

    budgets = {"vllm_v1": [8192, *range(100, 140)]}
    kept = [Option(name, name, 1, 1, 1, 1.0, budgets) for name in "abcd"]
    study.Search(kept, {"tbt_p99": 1.0}, 64, serve, {}).run(6, 0, None, lambda _: None)
    assert served[:4] == [(name, 8192) for name in "abcd"]
    assert len(served) == 6


def test_the_answer_comes_first_and_ends_in_lines_to_paste(tmp_path: Path) -> None:
    load = ("model=meta-llama/Llama-3.1-8B-Instruct", "trace=sharegpt", "trace.num_requests=60", "arrival.qps=4")
    space = ("search.devices=[h100_sxm]", "search.tp=[1]", "search.pp=[1]", "search.token_budgets=[2048]")
    done = command(tmp_path, "simulator.search", *load, *space, "slo.ttft_p90=2", "hydra.run.dir=out")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if line.split()][:1] == ["model"]
    assert any(line.startswith("load      4 requests/s of sharegpt, ") for line in lines)
    assert "cheapest  $6.88/h, 1 x h100_sxm tp1 pp1, vllm_v1" in [line.rstrip() for line in lines]
    written = json.loads((tmp_path / "out" / "search.json").read_text())
    best = written["cheapest"]
    limits = f"{best['token_budget']:,} tokens and 1,024 requests per iteration, 92% of the memory"
    assert f"limits    {limits}" in [line.rstrip() for line in lines]
    start = lines.index("# on 1 x h100_sxm")
    assert lines[start : start + len(written["launch"])] == written["launch"]
    launch = read_words(shlex.split(" ".join(written["launch"][1:-1]).replace("\\", "")))
    assert launch.settings["scheduler.max_num_batched_tokens"] == best["token_budget"]
    assert lines.index("# on 1 x h100_sxm") < next(row for row, line in enumerate(lines) if "Pareto front" in line)


def test_the_command_writes_the_pareto_front(tmp_path: Path) -> None:
    arguments = [
        "trace=sharegpt",
        "trace.num_requests=60",
        "arrival.qps=4",
        "slo=none",
        "slo.tbt_p99=0.2",
        "slo.ttft_p90=2",
    ]
    space = [
        "search.devices=[a40,h100_sxm]",
        "search.tp=[1]",
        "search.pp=[1]",
        "search.schedulers=[sarathi,vllm]",
        "search.token_budgets=[512]",
    ]
    files = ("search.storage=s.journal", "hydra.run.dir=out")
    done = command(tmp_path, "simulator.search", *arguments, *space, *files)
    assert (done.returncode, done.stderr) == (0, "")
    written = json.loads((tmp_path / "out" / "search.json").read_text())
    rows = list(csv.DictReader((tmp_path / "out" / "search.csv").read_text().splitlines()))
    within = [row for row in rows if row["met"] == "1"]
    assert written["cheapest"]["cost_per_hour_usd"] == min(float(row["cost_per_hour_usd"]) for row in within)
    assert all(float(row["tbt_p99"]) <= 0.2 and float(row["ttft_p90"]) <= 2 for row in within)
    assert {row["pareto_tbt_p99"] for row in rows} == {"0", "1"}
    assert (tmp_path / "out" / "search.png").read_bytes().startswith(b"\x89PNG")
    assert "Pareto front" in done.stdout


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("search.devices=[bla]", "device"),
        ("search.schedulers=[bla]", "search.schedulers"),
        ("search.tp=[]", "search.tp"),
        ("search.trials=0", "search.trials"),
        ("search.storage=bla", "search.storage"),
        ("search.token_budgets=[0]", "token_budget"),
        ("slo.tbt_p99=0.00001", "no layout is left of"),
        ("slo=strict", "seconds"),
        ("parallel.tp=8", "search.tp"),
        ("scheduler.max_num_batched_tokens=1", "search.token_budgets"),
        ("device=a40", "search.devices"),
        ("model.max_model_len=1", "no request is left"),
    ],
)
def test_mistakes_are_named(override: str, named: str, tmp_path: Path) -> None:
    bound = [] if "slo" in override else ["slo.tbt_p99=1"]
    few = ("search.devices=[a100_80gb]", "trace.num_requests=5")
    done = command(tmp_path, "simulator.search", *few, *bound, override)
    assert done.returncode == 2
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
