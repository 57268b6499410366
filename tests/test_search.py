"""The cheapest deployment within an SLO."""

import csv
import json
import math
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cluster import Deployment
from simulator.config import composed, load_config, to_hydra
from simulator.launch import read_words
from simulator.results import SLO
from simulator.search.bounds import Load, fewest_replicas, ruled_out
from simulator.search.config import SearchTask, build_search
from simulator.search.outcomes import SLACK, Candidate, Outcome, cheapest, pareto
from simulator.search.report import summarize
from simulator.search.results_file import ResultsFile
from simulator.search.space import Option, options
from simulator.search.walk import NEAR, Walk, walk
from simulator.simulation import simulate
from tests.helpers import command

BOUNDS = {"tbt_p99": 1.0}
MOST_REPLICAS = 64


def load_search(*overrides: str) -> SearchTask:
    with composed("search", overrides) as config:
        return build_search(config, to_hydra(overrides))


def deployment(*overrides: str) -> Deployment:
    loaded: Deployment = load_config(*overrides, "trace.num_requests=1")["deployment"]
    return loaded


ONE = deployment()


def option(name: str, price: float = 1.0, fewest: int = 1, most: int = MOST_REPLICAS) -> Option:
    return Option(name, 1, 1, "vllm", None, fewest, most, price, ONE)


def outcome_of(candidate: Candidate, latency_s: float, keeps_up: bool = True) -> Outcome:
    chosen, replicas = candidate.option, candidate.replicas
    return Outcome(
        device=chosen.device,
        tp=1,
        pp=1,
        replicas=replicas,
        scheduler="vllm",
        token_budget=None,
        max_num_seqs=8,
        memory_utilization=0.9,
        num_gpus=replicas,
        cost_per_hour_usd=replicas * chosen.price_per_hour_usd,
        values={"tbt_p99": latency_s},
        met=keeps_up and latency_s <= 1,
        warnings=[],
    )


def searched(
    latencies: Mapping[str, Callable[[int], float]], prices: Mapping[str, float], trials: int = 10_000
) -> tuple[Walk, list[tuple[str, int]]]:
    """Walk through devices whose latency depends on the replicas; return the walk and what was simulated."""
    simulated: list[tuple[str, int]] = []

    def evaluate(candidates: Sequence[Candidate]) -> Outcome:
        device, replicas = candidates[0].option.device, candidates[0].replicas
        simulated.append((device, replicas))
        return outcome_of(candidates[0], latencies[device](replicas))

    return walk([option(name, prices[name]) for name in latencies], BOUNDS, evaluate, trials), simulated


def needing(replicas: float) -> Callable[[int], float]:
    return lambda given: replicas / given


@st.composite
def spaces(draw: st.DrawFn) -> list[tuple[Option, list[float]]]:
    """Options with prices that tie, and their latency with each number of replicas, which falls or stays."""
    space = []
    for number in range(draw(st.integers(1, 6))):
        fewest = draw(st.integers(1, 3))
        most = draw(st.integers(fewest, 12))
        latencies = draw(st.lists(st.sampled_from([0.25, 0.5, 1.0, 1.05, 1.5, 3.0, math.inf]), min_size=most))
        price = draw(st.sampled_from([0.7, 1.0, 1.4, 2.1, 6.0]))
        space.append((option(f"d{number}", price, fewest, most), sorted(latencies[:most], reverse=True)))
    return space


def brute_force(space: Sequence[tuple[Option, list[float]]]) -> list[Outcome]:
    return [
        outcome_of(Candidate(one, replicas), min(latencies[replicas - 1], 9.0), latencies[replicas - 1] < math.inf)
        for one, latencies in space
        for replicas in range(one.fewest_replicas, one.most_replicas + 1)
    ]


def walked(space: Sequence[tuple[Option, list[float]]]) -> Walk:
    known = {(outcome.device, outcome.replicas): outcome for outcome in brute_force(space)}
    return walk(
        [one for one, _ in space],
        BOUNDS,
        lambda candidates: known[candidates[0].option.device, candidates[0].replicas],
        10_000,
    )


@given(spaces())
@settings(deadline=None)
def test_the_walk_finds_what_brute_force_finds(space: list[tuple[Option, list[float]]]) -> None:
    every, found = brute_force(space), walked(space)
    best, answer = cheapest(every), cheapest(found.outcomes)
    assert (answer and (answer.cost_per_hour_usd, answer.values)) == (best and (best.cost_per_hour_usd, best.values))
    assert found.open_usd == math.inf
    names = [(outcome.device, outcome.replicas) for outcome in found.outcomes]
    assert len(set(names)) == len(names)
    if best is None:
        return
    most_usd = SLACK * best.cost_per_hour_usd
    for one, _ in space:
        within = [outcome for outcome in every if outcome.device == one.device and outcome.met]
        fewest = within[0] if within and within[0].cost_per_hour_usd <= most_usd else None
        assert fewest is None or fewest in found.outcomes
    first_met = next(number for number, outcome in enumerate(found.outcomes) if outcome.met)
    for number, outcome in enumerate(found.outcomes[first_met:], first_met):
        so_far = min(other.cost_per_hour_usd for other in found.outcomes[: number + 1] if other.met)
        assert outcome.cost_per_hour_usd <= SLACK * so_far or outcome.met


@given(st.data(), st.lists(st.sampled_from([0.7, 1.0, 1.05, 1.5, 9.0]), min_size=30, max_size=30))
@settings(deadline=None)
def test_what_is_cheaper_than_the_answer_is_simulated_or_ruled_out(data: st.DataObject, latencies: list[float]) -> None:
    """Whatever the latencies are: by more replicas that miss clearly, or by two in a row that nearly meet the SLO."""
    prices = data.draw(st.lists(st.sampled_from([1.0, 1.5, 4.0]), min_size=3, max_size=3))
    space = [
        (option(f"d{number}", price, most=10), latencies[10 * number :][:10]) for number, price in enumerate(prices)
    ]
    found = walked(space)
    values = {(outcome.device, outcome.replicas): outcome.values["tbt_p99"] for outcome in found.outcomes}
    best = cheapest(found.outcomes)
    for outcome in brute_force(space):
        device = outcome.device
        if best is not None and outcome.cost_per_hour_usd >= best.cost_per_hour_usd:
            continue
        missed = {replicas: value for (name, replicas), value in values.items() if name == device and value > 1}
        assert outcome.replicas in missed or any(
            replicas > outcome.replicas and (value > NEAR or replicas + 1 in missed)
            for replicas, value in missed.items()
        )


@given(st.floats(2, 18), st.integers(0, 18))
@settings(deadline=None)
def test_an_accident_of_the_load_does_not_hide_the_fewest_replicas(needed: float, place: int) -> None:
    """Of neighbouring deployments near the bound, a single one may miss the SLO by chance."""
    latencies = [needed / replicas for replicas in range(1, 21)]
    meets = [replicas for replicas in range(1, 21) if latencies[replicas - 1] <= 1]
    latencies[meets[place % len(meets)] - 1] = (1 + NEAR) / 2
    cheap, dear = option("cheap", 1.0, most=20), option("dear", 20.0, most=1)
    found = walked([(cheap, latencies), (dear, [0.1])])
    assert cheapest(found.outcomes) == cheapest(brute_force([(cheap, latencies), (dear, [0.1])]))


def test_the_fewest_replicas_of_each_option_are_found_in_few_simulations() -> None:
    found, simulated = searched({"slow": needing(13), "fast": needing(3)}, {"slow": 1.0, "fast": 5.0})
    within = [outcome for outcome in found.outcomes if outcome.met]
    assert min(outcome.replicas for outcome in within if outcome.device == "slow") == 13
    assert min(outcome.replicas for outcome in within if outcome.device == "fast") == 3
    best = cheapest(found.outcomes)
    assert best is not None
    assert best.cost_per_hour_usd == 13
    assert len(simulated) <= 16


def test_an_option_that_cannot_be_cheaper_takes_one_simulation() -> None:
    names = [f"d{number}" for number in range(20)]
    latencies = {"best": needing(4), **{name: needing(1000) for name in names}}
    _, simulated = searched(latencies, {"best": 1.0, **dict.fromkeys(names, 1.5)})
    assert len(simulated) <= 8 + 3 * len(names)
    prices = {"best": 1.0, **dict.fromkeys(names, 9.0)}
    assert all(device == "best" for device, _ in searched(latencies, prices)[1])


def test_the_order_of_the_walk_is_that_of_the_lowest_untried_cost() -> None:
    latencies = {"a": needing(3), "b": needing(1), "c": needing(1)}
    _, simulated = searched(latencies, {"a": 1.0, "b": 2.5, "c": 2.5})
    assert simulated == [("a", 1), ("a", 2), ("b", 1), ("c", 1), ("a", 5), ("a", 4), ("a", 3)]


def test_the_limit_ends_the_search_and_tells_what_is_left() -> None:
    latencies = {"a": needing(40), "b": needing(2)}
    found, simulated = searched(latencies, {"a": 1.0, "b": 3.0}, trials=3)
    assert len(simulated) == 3
    assert found.open_usd == 3.0
    everything, _ = searched(latencies, {"a": 1.0, "b": 3.0})
    assert everything.outcomes[:3] == found.outcomes


def test_the_pareto_front_leaves_out_options_that_were_not_simulated() -> None:
    found, _ = searched({"dear": needing(1), "cheap": needing(2)}, {"dear": 50.0, "cheap": 1.0})
    assert {outcome.device for outcome in pareto(found.outcomes, "tbt_p99")} == {"cheap"}


def test_a_deployment_whose_queue_grows_without_end_is_not_within_the_slo() -> None:
    def evaluate(candidates: Sequence[Candidate]) -> Outcome:
        return outcome_of(candidates[0], 0.1, keeps_up=candidates[0].replicas >= 7)

    found = walk([option("a")], BOUNDS, evaluate, 100)
    assert min(outcome.replicas for outcome in found.outcomes if outcome.met) == 7


def test_nothing_beats_the_pareto_front_in_both_cost_and_latency() -> None:
    found, _ = searched({"a": needing(8), "b": needing(2)}, {"a": 1.0, "b": 6.0})
    front = pareto(found.outcomes, "tbt_p99")
    costs = [outcome.cost_per_hour_usd for outcome in front]
    latencies = [outcome.values["tbt_p99"] for outcome in front]
    assert costs == sorted(set(costs))
    assert latencies == sorted(set(latencies), reverse=True)
    for outcome in found.outcomes:
        if outcome.met:
            assert any(
                best.cost_per_hour_usd <= outcome.cost_per_hour_usd
                and best.values["tbt_p99"] <= outcome.values["tbt_p99"]
                for best in front
            )


# -- the file of results --------------------------------------------------------------------------

SPACE = [option(f"d{number}", 1 + number / 4) for number in range(5)]
IDENTITY = {"slo": {"tbt_p99": 1.0}, "seed": 0}


def with_file(path: Path, killed_after: int = 10_000, space: Sequence[Option] = SPACE, **changed: Any) -> Any:
    """Search with a file of results; return the outcomes and what was simulated."""
    simulated: list[Candidate] = []

    def serve(candidate: Candidate) -> Outcome:
        if len(simulated) == killed_after:
            raise KeyboardInterrupt
        simulated.append(candidate)
        return outcome_of(candidate, 0.1 + 5.7 / candidate.replicas)

    file = ResultsFile(path, IDENTITY | changed)
    found = walk(space, BOUNDS, lambda candidates: file.evaluate(candidates, serve), 10_000)
    return found.outcomes, simulated


def test_a_search_resumes_after_every_interruption_without_simulating_again(tmp_path: Path) -> None:
    whole, simulated = with_file(tmp_path / "whole.jsonl")
    assert len(simulated) == len(whole) > 5
    assert [path.name for path in tmp_path.iterdir()] == ["whole.jsonl"]
    for killed_after in range(len(simulated)):
        path = tmp_path / f"{killed_after}.jsonl"
        with pytest.raises(KeyboardInterrupt):
            with_file(path, killed_after)
        assert len(path.read_text().splitlines()) == 1 + killed_after
        resumed, rest = with_file(path)
        assert resumed == whole
        assert rest == simulated[killed_after:]
        assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert with_file(tmp_path / "whole.jsonl") == (whole, [])


def test_a_search_killed_while_writing_resumes_from_every_byte(tmp_path: Path) -> None:
    whole, simulated = with_file(tmp_path / "whole.jsonl")
    content = (tmp_path / "whole.jsonl").read_bytes()
    cut = tmp_path / "cut.jsonl"
    for length in range(0, len(content), 307):
        cut.write_bytes(content[:length])
        num_lines = content[:length].count(b"\n")
        was_cut = num_lines > 0 and not content[:length].endswith(b"\n")
        assert ResultsFile(cut, IDENTITY).was_cut == was_cut
        cut.write_bytes(content[:length])
        resumed, rest = with_file(cut)
        assert resumed == whole
        assert rest == simulated[max(0, num_lines - 1) :]
        assert cut.read_bytes() == content


def test_a_wider_search_uses_the_file_of_a_narrower_one(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    with_file(path, space=SPACE[:2])
    outcomes, simulated = with_file(path)
    assert outcomes == with_file(tmp_path / "new.jsonl")[0]
    assert 0 < len(simulated) < len(outcomes)
    dearer = [replace(one, price_per_hour_usd=2 * one.price_per_hour_usd) for one in SPACE]
    assert len(with_file(path, space=dearer)[1]) == len(outcomes)


def test_two_searches_that_share_a_file_share_the_work(tmp_path: Path) -> None:
    whole, alone = with_file(tmp_path / "alone.jsonl")
    path = tmp_path / "shared.jsonl"
    meeting = threading.Barrier(2, timeout=60)
    simulated: list[list[Candidate]] = [[], []]
    found: dict[int, Sequence[Outcome]] = {}

    def search(number: int) -> None:
        def serve(candidate: Candidate) -> Outcome:
            simulated[number].append(candidate)
            if len(simulated[number]) == 1:
                meeting.wait()  # both simulate at the same time
            return outcome_of(candidate, 0.1 + 5.7 / candidate.replicas)

        file = ResultsFile(path, IDENTITY)
        found[number] = walk(SPACE, BOUNDS, lambda candidates: file.evaluate(candidates, serve), 10_000).outcomes

    threads = [threading.Thread(target=search, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {0: whole, 1: whole}
    both = [*simulated[0], *simulated[1]]
    assert simulated[0]
    assert simulated[1]
    assert len(set(map(repr, both))) == len(both)
    assert {*map(repr, alone)} <= {*map(repr, both)}
    assert [path.name for path in tmp_path.iterdir() if "lock" in path.name] == []


def test_what_a_killed_process_was_simulating_is_simulated_by_the_others(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    script = (
        "import os, sys; from pathlib import Path; import tests.test_search as t\n"
        "file = t.ResultsFile(Path(sys.argv[1]), t.IDENTITY)\n"
        "t.walk(t.SPACE, t.BOUNDS, lambda ones: file.evaluate(ones, lambda one: os._exit(9)), 100)"
    )
    killed = subprocess.run([sys.executable, "-c", script, path], check=False, capture_output=True, text=True)
    assert (killed.returncode, killed.stderr) == (9, "")
    assert any("lock" in left.name for left in tmp_path.iterdir())
    assert with_file(path)[0] == with_file(tmp_path / "alone.jsonl")[0]
    assert not any("lock" in left.name for left in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1, 2]", "is not a file of a search"),
        (b"a,b\n1,2\n", "is not a file of a search"),
        (b'{"search": {"slo": {"tbt_p99": 2.0}, "seed": 0}}\n', "is of another search \\(slo\\)"),
        (b'{"search": {"slo": {"tbt_p99": 1.0}, "seed": 0}}\n{"candidate"}\n', "line 2 is damaged"),
        (b'{"search": {"slo": {"tbt_p99": 1.0}, "seed": 0}}\n{"candidate": "a", "outcome": {}}\n', "line 2 is damaged"),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        ResultsFile(path, IDENTITY)
    assert path.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["search.jsonl"]


# -- bounds and options ---------------------------------------------------------------------------


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
    bases = {
        device: [("sarathi", deployment("model=mistral_7b", f"device={device}", "scheduler=sarathi"))]
        for device in ("a40", "h100_sxm")
    }
    model = deployment("model=llama2_70b", "device=a40", "parallel.tp=4").model
    bases = {device: [(name, replace(base, model=model)) for name, base in known] for device, known in bases.items()}
    load = Load(1.0, 3000, 1e6, 400, 1e6, np.array([100, 2000]))
    slo = SLO.of({"tbt_p99": 0.2})
    kept, pruned = options(bases, [(1, 1), (4, 1)], 64, slo, load)
    assert [(one.device, one.tp, one.pp) for one in kept] == [("a40", 4, 1), ("h100_sxm", 4, 1)]
    assert [one.most_replicas for one in kept] == [16, 16]
    assert all("does not fit" in layout.reason for layout in pruned)
    none, pruned = options({"a40": bases["a40"]}, [(4, 1)], 2, slo, load)
    assert none == []
    assert "search.max_gpus" in pruned[0].reason


def test_machines_bound_the_replicas() -> None:
    base = replace(deployment("device=h100_sxm"), num_nodes=2)
    load = Load(1e-3, 3000, 1e6, 400, 1e6, np.array([100, 2000]))
    (kept,), _ = options({"h100_sxm": [("sarathi", base)]}, [(4, 1)], 64, SLO.of({"tbt_p99": 1}), load)
    assert kept.most_replicas == 4
    assert replace(kept.deployment, num_replicas=4).replica_specs()
    with pytest.raises(ValueError, match="machines"):
        replace(kept.deployment, num_replicas=5).replica_specs()


@pytest.mark.parametrize("device", ["a100_80gb", "h100_sxm", "h200_sxm", "l40s"])
def test_the_engine_s_defaults_on_each_device_are_among_the_candidates(device: str) -> None:
    given = ("model=llama3_8b", "slo.tbt_p99=1", "trace.num_requests=5", "search.token_budgets=[512]")
    task = load_search(*given, "search.devices=[a100_80gb,h100_sxm,h200_sxm,l40s]", "search.tp=[1,2]", "search.pp=[1]")
    default = deployment("model=llama3_8b", "scheduler=vllm_v1", f"device={device}", "parallel.tp=2")
    own, few = [one for one in task.kept if (one.device, one.tp) == (device, 2)]
    assert own.deployment == default
    assert few.token_budget == 512
    limits = vars(few.deployment.scheduler)
    assert limits["max_num_seqs"] == min(vars(default.scheduler)["max_num_seqs"], limits["max_num_batched_tokens"])


def test_each_device_and_policy_has_its_own_engine() -> None:
    devices, policies = "search.devices=[a100_80gb,l40s]", "search.schedulers=[sarathi,vllm_v1]"
    task = load_search("slo.tbt_p99=1", "trace.num_requests=5", "search.tp=[1]", "search.pp=[1]", devices, policies)
    for device in ("a100_80gb", "l40s"):
        for policy in ("sarathi", "vllm_v1"):
            own = next(one for one in task.kept if (one.device, one.scheduler) == (device, policy))
            assert own.deployment == deployment(f"device={device}", f"scheduler={policy}")


def test_one_layout_and_one_deployment_are_in_the_singular(tmp_path: Path) -> None:
    one = ("search.devices=[h100_sxm]", "search.tp=[1]", "search.pp=[1]", "search.trials=1", "trace.num_requests=5")
    done = command(tmp_path, "simulator.search", "model=llama3_8b", *one, "slo.tbt_p99=1", "hydra.run.dir=out")
    assert "1 layout searched, 0 ruled out; 1 deployment simulated" in done.stdout.splitlines()


def test_a_search_starts_from_a_deployment() -> None:
    few = ("slo.tbt_p99=1", "trace.num_requests=5", "search.devices=[a100_80gb_sxm]", "search.tp=[2]", "search.pp=[1]")
    task = load_search("deployment=vllm_v1_llama3_8b_h100", "kv_cache.prefix_caching=false", *few)
    given = ("model=llama3_8b", "scheduler=vllm_v1", "device=a100_80gb_sxm", "kv_cache.prefix_caching=false")
    assert task.kept[0].deployment == deployment(*given, "parallel.tp=2")


def test_what_the_search_leaves_open_is_said() -> None:
    few = ("search.devices=[a100_80gb]", "search.tp=[1]", "search.pp=[1]", "trace.num_requests=5")
    task = replace(load_search("slo.tbt_p99=1", *few), kept=[option("a"), option("b")])
    best = outcome_of(Candidate(option("a"), 2), 0.1)
    missed = outcome_of(Candidate(option("a"), 1), 2.0)

    def warnings_of(*outcomes: Outcome, open_usd: float = math.inf) -> list[str]:
        warnings: list[str] = summarize(task, Walk(outcomes, open_usd))["warnings"]
        return warnings

    assert warnings_of(missed, best) == []
    stopped, cheaper = "stopped after 2 deployments (search.trials):", "cheaper deployments may exist, from"
    assert warnings_of(missed, missed, open_usd=2.0) == [f"{stopped} {cheaper} $2.00/h up"]
    assert warnings_of(missed, best, open_usd=1.0) == [f"{stopped} {cheaper} $1.00/h up"]
    assert warnings_of(missed, best, open_usd=3.0) == [
        f"{stopped} the Pareto front may lack deployments from $3.00/h up"
    ]
    worse = outcome_of(Candidate(option("a"), 3), 1.2)
    assert "a, 2 x TP1 PP1, vllm is closer to the SLO than 3 replicas" in warnings_of(best, worse)[0]
    near = outcome_of(Candidate(option("a"), 3), 1.02)
    assert warnings_of(outcome_of(Candidate(option("a"), 2), 1.01), near) == []


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
    files = ("search.storage=s.jsonl", "hydra.run.dir=out")
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
    names = ("search.csv", "search.json", "search.png")
    first = {name: (tmp_path / "out" / name).read_bytes() for name in names}
    storage = tmp_path / "s.jsonl"
    lines = storage.read_bytes().splitlines(keepends=True)
    storage.write_bytes(b"".join(lines[:4]) + lines[4][:20])
    again = command(tmp_path, "simulator.search", *arguments, *space, *files)
    assert again.returncode == 0
    assert again.stderr == "s.jsonl: its last line is incomplete and was removed\n"
    assert again.stdout == done.stdout
    assert storage.read_bytes().splitlines(keepends=True) == lines
    assert {name: (tmp_path / "out" / name).read_bytes() for name in names} == first
    other = command(tmp_path, "simulator.search", *arguments, *space, *files, "seed=1")
    assert (other.returncode, other.stderr) == (
        2,
        "error: search.storage=s.jsonl is of another search (seed): choose another file\n",
    )


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("search.devices=[bla]", "device"),
        ("search.schedulers=[bla]", "search.schedulers"),
        ("search.tp=[]", "search.tp"),
        ("search.trials=0", "search.trials"),
        ("search.storage=bla", "search.storage"),
        ("search.storage=a.journal", "NAME.jsonl"),
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
