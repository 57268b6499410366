"""Client classes: each has its own requests, rate, SLO and figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator import simulate
from simulator.capacity import load_capacity
from simulator.config import ConfigError, load_config
from simulator.output import Files, write_result
from simulator.results import Distribution, client_figures, objectives_of
from tests.helpers import command
from traces.arrivals import ClosedLoop, Gamma, Poisson, Sessions
from traces.generators import ClientClass, Conversations, Fixed, Geometric, Mix, Uniform

MIX = Mix(
    {
        "chat": ClientClass(Fixed(100, 20), Poisson(qps=3), {"ttft_p90": 1}),
        "batch": ClientClass(Fixed(2000, 5), Gamma(qps=1, cv=2)),
    },
    num_requests=20_000,
)


def test_each_class_arrives_at_its_own_rate_and_with_its_own_lengths() -> None:
    trace = MIX.load(np.random.default_rng(0))
    assert trace.client is not None
    assert trace.arrival_s is not None
    assert len(trace) == 20_000
    for number, (qps, prompt, second_moment) in enumerate([(3.0, 100, 2.0), (1.0, 2000, 5.0)]):
        own = trace.client == number
        assert set(trace.prompt_tokens[own].tolist()) == {prompt}
        gaps = np.diff(trace.arrival_s[own], prepend=0.0) * qps
        error = 4 * gaps.std() / len(gaps) ** 0.5
        assert gaps.mean() == pytest.approx(1, abs=error)
        assert error < 0.15
        assert np.mean(gaps**2) == pytest.approx(second_moment, rel=0.25)


def test_a_class_does_not_change_when_another_class_is_added() -> None:
    alone = Mix({"chat": MIX.clients["chat"]}, num_requests=1000).load(np.random.default_rng(5))
    mixed = MIX.load(np.random.default_rng(5))
    assert mixed.client is not None
    assert mixed.arrival_s is not None
    assert alone.arrival_s is not None
    assert np.array_equal(mixed.arrival_s[mixed.client == 0][:1000], alone.arrival_s)


def test_a_rare_class_arrives_until_the_end() -> None:
    rare = Mix({"often": ClientClass(Fixed(), Poisson(100)), "rare": ClientClass(Fixed(), Poisson(0.1))}, 30_000)
    trace = rare.load(np.random.default_rng(0))
    assert trace.client is not None
    assert trace.arrival_s is not None
    assert len(trace) == 30_000
    assert 10 <= np.count_nonzero(trace.client == 1) <= 60
    assert trace.arrival_s[-1] == pytest.approx(300, rel=0.05)


def test_a_mix_ends_when_the_file_of_a_class_ends(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("prompt_tokens,output_tokens,arrival_s\n" + "".join(f"9,3,{second}\n" for second in range(20)))
    overrides = [
        "trace=mix",
        "trace@trace.clients.chat.requests=file",
        "arrival@trace.clients.chat.arrivals=trace",
        f"trace.clients.chat.requests.path={path}",
        "trace.clients.chat.arrivals.qps=null",
        "trace.clients.summarise.arrivals.qps=5",
    ]
    trace = load_config(*overrides)["trace"]
    assert trace.arrival_s.max() <= 19
    assert np.count_nonzero(trace.client == 0) == 20
    assert f"{len(trace)} requests instead of 512, as clients.chat has no more" in [note.text for note in trace.notes]


def test_sessions_of_a_class_stay_sessions() -> None:
    chats = Conversations(Geometric(3), Uniform(5, 9), Uniform(5, 9), 500)
    mix = Mix({"chat": ClientClass(chats, Sessions(qps=2)), "other": ClientClass(Fixed(), Poisson(2))}, 400)
    trace = mix.load(np.random.default_rng(0))
    assert trace.client is not None
    assert trace.session is not None
    assert trace.arrival_s is not None
    chat = trace.client == 0
    _, turn = trace.turns()
    assert np.array_equal(np.isnan(trace.arrival_s), chat & (turn > 0))
    assert np.all(turn[~chat] == 0)
    assert 0.3 < chat.mean() < 0.7


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trace.clients.chat.arrivals.qps=0"], "trace.clients.chat.arrivals.qps must be a number from 1e-6 to 1e9"),
        (["trace.clients.chat.cv=2"], "trace.clients.chat.cv is not a key; allowed are: trace.clients.chat.requests"),
        (
            ["trace.clients.chat.slo.tbt_p99=-1"],
            "trace.clients.chat.slo: chat.tbt_p99 must be a number above 0 and at most 1e6 seconds",
        ),
        (["trace.clients.chat.slo.speed=1"], "trace.clients.chat.slo: speed is not an objective"),
        (["trace.clients=7"], "trace.clients must be at least one class by name, got 7"),
        (["arrival@trace.clients.chat.arrivals=closed_loop"], "trace.clients.chat"),
        (["trace@trace.clients.chat.requests=file"], "trace.clients.chat.requests.path has no default"),
    ],
    ids=" ".join,
)
def test_mistakes_are_named(overrides: Sequence[str], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        simulate(**load_config("trace=mix", "trace.num_requests=20", *overrides))
    assert str(error.value).startswith(message), str(error.value)
    assert "\n" not in str(error.value)


def test_a_closed_loop_in_a_mix_is_refused() -> None:
    with pytest.raises(ValueError, match="a closed loop cannot be a class of a mix"):
        Mix({"a": ClientClass(Fixed(), ClosedLoop(users=3))}, 50).load(np.random.default_rng(0))


OVERRIDES = [
    "trace=mix",
    "trace.num_requests=120",
    "trace.clients.chat.slo.ttft_p90=0.3",
    "trace.clients.chat.slo.tbt_p50=0.017",
    "trace.clients.chat.slo.tbt_p99=null",
]


def test_figures_of_a_class_cover_only_its_requests() -> None:
    result = simulate(**load_config(*OVERRIDES, "metrics.warmup_s=20"))
    figures = client_figures(result)
    assert [row["client"] for row in figures] == ["chat", "summarise"]
    table = result.requests
    for number, row in enumerate(figures):
        own = table["client"] == number
        counted = own & (table["arrival_s"] >= 20)
        ttft_s = (table["first_token_s"] - table["arrival_s"])[counted]
        assert row["num_requests"] == own.sum()
        assert row["num_finished"] == own.sum()
        assert row["ttft_s"] == Distribution(ttft_s).summary()
        assert row["requests_per_s"] == pytest.approx(counted.sum() / result.summary["makespan_s"])
    assert sum(row["num_requests"] for row in figures) == 120


def test_the_slo_of_a_class_is_judged_on_its_own_requests() -> None:
    result = simulate(**load_config(*OVERRIDES))
    chat = client_figures(result)[0]
    objectives = {objective["name"]: objective for objective in chat["slo"]["objectives"]}
    assert objectives["ttft_p90"]["value"] == chat["ttft_s"]["p90"]
    assert objectives["tbt_p50"]["value"] == chat["tbt_s"]["p50"]
    assert chat["slo"]["met"] == all(row["value"] <= row["bound"] for row in objectives.values())
    table = result.requests
    own = table["client"] == 0
    late = (table["first_token_s"] - table["arrival_s"])[own] > 0.3
    assert chat["slo"]["goodput"] == pytest.approx(1 - late.mean())
    # Over all requests, only those of the class can miss the objectives of the class.
    together = objectives_of(result.clients[:1]).goodput(result)
    assert together.share == pytest.approx(1 - late.sum() / len(own))


def test_a_class_without_requests_misses_no_objective() -> None:
    result = simulate(**load_config("trace=mix", "trace.num_requests=30", "trace.clients.summarise.arrivals.qps=1e-6"))
    empty = client_figures(result)[1]
    assert (empty["num_requests"], empty["slo"]["met"], empty["slo"]["goodput"]) == (0, None, None)
    assert objectives_of(result.clients).missed(result) == []


def test_throughput_of_classes_adds_up_to_that_of_the_run() -> None:
    result = simulate(**load_config(*OVERRIDES))
    figures = client_figures(result)
    for name in ("requests_per_s", "output_tokens_per_s"):
        assert sum(row[name] for row in figures) == pytest.approx(result.summary[name])


def test_arrivals_that_would_replace_those_of_the_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="arrival: Mix has arrivals of its own, so it needs arrival=trace; Poisson"):
        load_config("trace=mix", "arrival=poisson")
    faster = load_config("trace=mix", "arrival.speed=2")["trace"]
    assert faster.arrival_s == pytest.approx(load_config("trace=mix")["trace"].arrival_s / 2)


def test_a_capacity_meets_the_slo_of_each_class() -> None:
    task = load_capacity("trace=mix", "slo=none", "trace.num_requests=40")
    assert task.experiment.slo.bounds() == {"chat.ttft_p90": 2, "chat.tbt_p99": 0.2, "summarise.e2e_p90": 60}
    task = load_capacity("trace=mix", "slo=none", "slo.ttft_p50=1", "trace.num_requests=40")
    assert set(task.experiment.slo.bounds()) == {"ttft_p50", "chat.ttft_p90", "chat.tbt_p99", "summarise.e2e_p90"}
    trial = task.experiment.trials(0)(50.0)
    assert "chat.ttft_p90" in trial.missed


@pytest.mark.parametrize(("num_clients", "is_shown"), [(32, True), (33, False)])
def test_a_table_of_many_clients_shows_the_first(num_clients: int, is_shown: bool, tmp_path: Path) -> None:
    rows = "".join(f"{row},9,2,c{row}\n" for row in range(num_clients))
    (tmp_path / "log.csv").write_text(f"timestamp,input_tokens,output_tokens,client_id\n{rows}")
    arguments = ("trace=file", f"trace.path={tmp_path / 'log.csv'}", "arrival=trace", "hydra.run.dir=run")
    done = command(tmp_path, "simulator", *arguments)
    assert done.returncode == 0, done.stderr
    assert any(line.startswith(f"c{num_clients - 1} ") for line in done.stdout.splitlines()) == is_shown
    assert ("the first 32 of 33 rows are shown; summary.json has all" in done.stdout) != is_shown


def test_classes_and_sessions_are_in_the_files(tmp_path: Path) -> None:
    result = simulate(**load_config(*OVERRIDES))
    write_result(result, tmp_path, {}, Files())
    header, first, *_ = (tmp_path / "requests.csv").read_text().splitlines()
    assert header.endswith(",replica,client")
    assert first.rpartition(",")[2] in ("chat", "summarise")
    frame: Any = result.to_dataframe()
    assert frame["client"].value_counts().to_dict() == {
        row["client"]: row["num_requests"] for row in client_figures(result)
    }
