"""`python -m traces`: describe, convert and fit match the contents of the file."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulator.config import load_config
from tests.helpers import REPOSITORY, SHARED, command, needs_shared
from traces import Arrivals, PrefixBlocks, Trace
from traces.arrivals import Gamma, Poisson, Renewal, Sessions, VaryingRate, Weibull
from traces.generators import Conversations, Geometric, LogNormal, SharedPrefix, Synthetic, Uniform
from traces.readers import TraceFile
from traces.tools import describe, fit, save
from traces.tools.describe import arrival_figures
from traces.tools.fit import distance, fit_arrivals, match, without_steps
from traces.tools.generator_files import write_generators


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command(folder, "traces", *arguments)


def generated(arrivals: Arrivals | None = None, count: int = 20_000) -> Trace:
    trace = Synthetic(LogNormal(500, 1), LogNormal(100, 0.5), 8192, count, 0.4).load(np.random.default_rng(0))
    return trace if arrivals is None else arrivals.assign(trace, np.random.default_rng(1))


def test_figures_follow_their_definitions() -> None:
    trace = Trace(
        np.array([10, 20, 30, 40]),
        np.array([4, 3, 2, 1]),
        arrival_s=np.array([5.0, 6.0, 6.0, 9.0]),
        session=np.array([3, -1, 3, 3]),
    )
    figures = describe(trace)
    assert figures["lengths"]["prompt_tokens"]["mean"] == 25
    assert figures["lengths"]["prompt_tokens"]["p50"] == 20
    assert figures["lengths"]["total_tokens"]["max"] == 41
    assert figures["rank_correlation"] == pytest.approx(-1)
    arrivals = figures["arrivals"]
    assert (arrivals["num_arrivals"], arrivals["span_s"], arrivals["qps"]) == (4, 4.0, 0.75)
    assert arrivals["gap_cv"] == pytest.approx(np.std([1, 0, 3]) / np.mean([1, 0, 3]))
    assert arrivals["index_of_dispersion"] == {}
    assert figures["sessions"]["num_sessions"] == 1
    assert figures["sessions"]["num_in_none"] == 1
    assert figures["sessions"]["turns"]["max"] == 3


@pytest.mark.parametrize("answers", [False, True], ids=["blocks of prompts", "blocks of prompts and outputs"])
def test_the_hit_rate_is_that_of_an_unlimited_prefix_cache(answers: bool) -> None:
    trace = SharedPrefix(Uniform(1, 60), Uniform(1, 60), None, 200, 5, 70).load(np.random.default_rng(0))
    if answers:
        chats = Conversations(Geometric(4), Uniform(1, 9), Uniform(20, 90), 2000, num_requests=200)
        trace = chats.load(np.random.default_rng(0))
        counts = (trace.prompt_tokens + trace.output_tokens) // 16
        session = np.asarray(trace.session)
        ids = np.concatenate([1000 * number + np.arange(count) for number, count in zip(session, counts, strict=True)])
        trace = replace(trace, prefix=PrefixBlocks.of_lengths(ids, counts, 16))
    assert trace.prefix is not None
    cache: set[int] = set()
    num_hit_tokens = 0
    for request, prompt in enumerate(trace.prompt_tokens.tolist()):
        ids = trace.prefix.of(request).tolist()
        num_hit_tokens += 16 * sum(block in cache for block in ids[: prompt // 16])
        cache |= set(ids)
    figures = describe(trace)["prefix"]
    assert figures["num_distinct_blocks"] == len(cache)
    assert figures["hit_rate"] == pytest.approx(num_hit_tokens / trace.prompt_tokens.sum())
    assert figures["hit_rate"] > 0.3
    unknown = replace(trace, prefix=replace(trace.prefix, block_tokens=None))
    assert describe(unknown)["prefix"]["hit_rate"] is None


def test_describe_prints_prefix_cache_hits(tmp_path: Path) -> None:
    text = "prompt_tokens,output_tokens,block_ids{0}\n40,9,0-1;7{1}\n40,1,0-1;8{1}\n"
    for name, columns in (("known", (",block_tokens", ",16")), ("unknown", ("", ""))):
        (tmp_path / f"{name}.csv").write_text(text.format(*columns))
        done = run(tmp_path, "describe", f"{name}.csv", f"json={name}.json")
        assert done.returncode == 0, done.stderr
        printed = " ".join(done.stdout.split())
        assert "6 blocks of" in printed
        assert "33.3% of them repeated" in printed
        assert ("40.0% of the prompt tokens hit an unlimited prefix cache" in printed) == (name == "known")


def test_notes_name_the_keys_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("arrival_s,prompt_tokens,output_tokens\n60,5,2\n61,5,\n62,5,2\n")
    shown = run(tmp_path, "describe", "log.csv", "num_requests=2", "output_tokens=3").stdout
    for note in ("; num_requests=null takes all", "own but output_tokens=3", ", and start_s counts from there"):
        assert note in shown
    assert "trace." not in shown


def test_describe_says_that_nothing_is_known_of_prefixes(tmp_path: Path) -> None:
    (tmp_path / "lengths.csv").write_text("prompt_tokens,output_tokens\n40,9\n40,1\n")
    (tmp_path / "chats.csv").write_text("prompt_tokens,output_tokens,session\n40,9,a\n60,1,a\n")
    said = "unknown, as the file has neither block ids nor later turns of sessions"
    assert said in " ".join(run(tmp_path, "describe", "lengths.csv").stdout.split())
    assert said not in " ".join(run(tmp_path, "describe", "chats.csv").stdout.split())


def test_dispersion_is_the_variance_of_counts_over_their_mean() -> None:
    counts = [3, 0, 5, 1, 1, 7, 2, 2, 0, 4]
    arrival_s = np.concatenate([[0.0], np.repeat(np.arange(10.0), counts) + 0.5, [10.0]])
    figures = arrival_figures(arrival_s)
    expected = np.array(counts) + np.array([1] + [0] * 9)
    assert figures["index_of_dispersion"] == {1: pytest.approx(expected.var() / expected.mean())}
    assert figures["peak_qps"] == {1: 7.0}


def test_simultaneous_arrivals_have_no_rate(tmp_path: Path) -> None:
    save(Trace(np.array([5, 6]), np.array([1, 2]), np.array([2.0, 2.0])), tmp_path / "a.csv")
    done = run(tmp_path, "describe", "a.csv")
    assert done.returncode == 0, done.stderr
    assert "2, all at once" in done.stdout


PROCESSES: dict[str, Arrivals] = {
    "poisson": Poisson(qps=3),
    "gamma": Gamma(qps=3, cv=2.5),
    "weibull": Weibull(qps=0.5, cv=2),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_a_fit_finds_the_process_that_made_the_arrivals(name: str) -> None:
    process = PROCESSES[name]
    fitted = fit_arrivals(np.asarray(generated(process).arrival_s))
    if name == "poisson":
        # Gamma and Weibull gaps can be exponential too.
        assert getattr(fitted, "cv", 1.0) == pytest.approx(1, abs=0.03)
    else:
        assert type(fitted) is type(process)
        assert fitted.cv == pytest.approx(process.cv, rel=0.05)  # type: ignore[attr-defined]
    assert fitted.qps == pytest.approx(process.qps, rel=0.06)  # type: ignore[attr-defined]


def test_a_fit_finds_a_rate_that_varies() -> None:
    process = VaryingRate(points=[[0, 1], [2000, 9], [4000, 1]])
    fitted = fit_arrivals(np.asarray(generated(process).arrival_s))
    assert isinstance(fitted, VaryingRate)
    assert fitted.points is not None
    assert fitted.cv == pytest.approx(1, abs=0.05)
    times_s, rates = np.array(fitted.points).T
    expected = np.interp(times_s[1:-1] % 4000, [0, 2000, 4000], [1, 9, 1])
    assert np.mean(np.abs(rates[1:-1] / expected - 1)) < 0.12


def test_gaps_of_an_unknown_distribution_are_kept_as_a_table() -> None:
    process = Renewal(qps=2, gaps=[0.1, 0.3, 5, 6], levels=[0, 0.7, 0.7001, 1])
    trace = generated(process)
    fitted = fit(trace)
    assert isinstance(fitted.arrivals, Renewal)
    errors = {row["name"]: row["error"] for row in match(trace, fitted)}
    assert abs(errors["CV of gaps"]) < 0.03
    assert errors["gap distribution"] < 0.03


def test_lengths_and_their_correlation_are_matched() -> None:
    trace = generated()
    errors = {row["name"]: row["error"] for row in match(trace, fit(trace))}
    assert errors["prompt_tokens distribution"] < 0.01
    assert errors["output_tokens distribution"] < 0.01
    assert abs(errors["rank correlation"]) < 0.02
    for name in ("prompt_tokens mean", "prompt_tokens p99", "output_tokens mean", "output_tokens p50"):
        assert abs(errors[name]) < 0.02, name


def test_a_bad_match_has_large_errors() -> None:
    rows = match(generated(), fit(Synthetic(Uniform(5, 50), Uniform(5, 50), None, 2000).load(np.random.default_rng(0))))
    errors = {row["name"]: row["error"] for row in rows}
    assert errors["prompt_tokens p50"] < -0.9
    assert errors["prompt_tokens distribution"] > 0.9
    assert distance(np.array([1, 2, 3, 4]), np.array([3, 4, 5, 6])) == 0.5


def test_a_fit_matches_conversations() -> None:
    chats = Conversations(
        Geometric(4), Uniform(5, 60), Uniform(20, 200), 3000, num_requests=20_000, opening=Uniform(100, 900)
    )
    trace = Sessions(qps=4, cv=2, think_s=12, think_cv=0.5).assign(
        chats.load(np.random.default_rng(0)), np.random.default_rng(1)
    )
    fitted = fit(trace)
    assert isinstance(fitted.arrivals, Sessions)
    assert fitted.arrivals.qps == pytest.approx(4, rel=0.1)
    assert (fitted.arrivals.cv, fitted.arrivals.think_s) == (pytest.approx(2, rel=0.1), pytest.approx(12, rel=0.02))
    assert fitted.arrivals.think_cv == pytest.approx(0.5, rel=0.03)
    errors = {row["name"]: row["error"] for row in match(trace, fitted)}
    assert errors["prompt_tokens distribution"] < 0.03
    assert errors["output_tokens distribution"] < 0.01


def test_times_recorded_in_steps_are_spread_over_the_steps() -> None:
    trace = generated(Poisson(qps=4))
    assert trace.arrival_s is not None
    assert without_steps(trace) is trace
    stepped = trace.arriving(np.floor(trace.arrival_s / 3) * 3)
    spread = without_steps(stepped)
    assert spread.arrival_s is not None
    assert np.array_equal(np.floor(spread.arrival_s / 3) * 3, stepped.arrival_s)
    assert isinstance(fit_arrivals(spread.arrival_s), Poisson | Gamma | Weibull)
    assert "recorded in steps of 3 s" in spread.notes[0].text
    # Bursts an hour apart, in whole seconds: no request moves by more than one second.
    bursts = np.floor(
        np.repeat(np.arange(24) * 3600.0, 400) + np.tile(np.sort(np.random.default_rng(0).random(400) * 60), 24)
    )
    moved = without_steps(generated(count=len(bursts)).arriving(bursts)).arrival_s
    assert moved is not None
    assert np.abs(moved - bursts).max() <= 1


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "trace.csv.gz"
    save(generated(Gamma(qps=3, cv=2.5), 3000), path)
    return path


def test_describe_prints_figures_and_draws_them(file: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "describe", str(file), "json=figures.json")
    assert done.returncode == 0, done.stderr
    assert "3,000 within" in done.stdout
    assert "CV of the gaps 2." in done.stdout
    assert json.loads((tmp_path / "figures.json").read_text())["num_requests"] == 3000
    assert (tmp_path / "trace.png").read_bytes().startswith(b"\x89PNG")


def test_convert_writes_a_file_that_loads_the_same_requests(file: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "convert", str(file), "short.parquet", "max_total_tokens=400")
    assert done.returncode == 0, done.stderr
    assert "requests longer than max_total_tokens=400 were left out" in done.stdout
    whole, short = (TraceFile(str(path)).load(np.random.default_rng(0)) for path in (file, tmp_path / "short.parquet"))
    fits = whole.prompt_tokens + whole.output_tokens <= 400
    assert np.array_equal(short.prompt_tokens, whole.prompt_tokens[fits])
    assert np.array_equal(np.asarray(short.arrival_s), np.asarray(whole.arrival_s)[fits])


def test_a_fit_can_be_selected_in_the_simulator(file: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "fit", str(file), "name=mine", "output=configs")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("python -m simulator --config-dir configs trace=mine arrival=mine")
    _, _, module, *shown = done.stdout.strip().splitlines()[-1].split()
    served = command(tmp_path, module, *shown, "trace.num_requests=30", "hydra.run.dir=out")
    assert served.returncode == 0, served.stderr
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["num_finished"] == 30
    text = (tmp_path / "configs" / "trace" / "mine.yaml").read_text()
    assert "python -m traces fit trace.csv.gz" in text
    assert "CV of gaps" in text


@pytest.mark.parametrize("arrivals", PROCESSES.values(), ids=PROCESSES)
def test_the_files_of_a_fit_build_the_same_generators(arrivals: Arrivals, tmp_path: Path) -> None:
    fitted = fit(generated(arrivals, 2000))
    paths = write_generators(fitted, tmp_path, "mine", [])
    assert [path.parent.name for path in paths] == ["trace", "arrival"]
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    source, process = (instantiate(OmegaConf.load(path), _convert_="all") for path in paths)
    assert source.prompt == type(source.prompt)(list(fitted.source.prompt.values), list(fitted.source.prompt.levels))  # type: ignore[attr-defined]
    trace = source.load(np.random.default_rng(0))
    processes = process, fitted.arrivals
    loaded, expected = (arrivals.assign(trace, np.random.default_rng(0)).arrival_s for arrivals in processes)
    assert np.array_equal(loaded, expected)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["inspect", "a.csv"], "inspect is not a command; allowed are: describe, convert, fit"),
        (["describe"], "describe needs FILE, got nothing"),
        (["convert", "a.csv"], "convert needs FILE and OUTPUT, got a.csv"),
        (["describe", "nowhere.csv"], "cannot read nowhere.csv: No such file or directory"),
        (["describe", "a.csv"], "a.csv line 3: output_tokens must be an integer of at least 1 and below 2^31, got '0'"),
        (["describe", "a.csv", "speed=2"], "speed is not a key; allowed are: picture, json, num_requests"),
        (
            ["describe", "a.csv", "num_requests=none"],
            "num_requests must be an integer of at least 1 or null, got 'none'",
        ),
        (["describe", "a.csv", "num_requests=[1"], "num_requests must be an integer of at least 1 or null, got '[1'"),
        (["describe", "a.csv", "on_error=skip", "picture=no/folder.png"], "No such file or directory: no/"),
        (["convert", "a.csv", "a.txt", "on_error=skip"], "a.txt must end in one of .csv, .csv.gz, .jsonl"),
        (["fit", "a.csv", "on_error=skip"], "a.csv: needs at least 2 requests"),
        (["describe", "a.csv", "on_error=skip", "picture=a.jpg"], "picture=a.jpg must end in .png"),
    ],
    ids=" ".join,
)
def test_mistakes_are_named_in_one_line(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt_tokens,output_tokens\n5,1\n6,0\n")
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {complaint}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    ("file", "arguments", "name"),
    [
        ("my trace (1).csv", [], "my_trace_1_"),
        ("2023.csv", [], "fitted_2023"),
        ("sharegpt.csv", [], "fitted_sharegpt"),
        ("a.csv", ["name=Mine_2"], "Mine_2"),
        ("a.csv", ["name=poisson"], None),
        ("a.csv", ["name=a/b"], None),
        ("a.csv", ["name=null"], None),
        ("a.csv", ["name="], None),
    ],
)
def test_a_fit_gets_a_name_that_is_valid_on_the_command_line(
    tmp_path: Path, file: str, arguments: list[str], name: str | None
) -> None:
    (tmp_path / file).write_text("prompt_tokens,output_tokens,arrival_s\n5,1,0\n6,1,1\n7,1,2\n8,1,3\n")
    done = run(tmp_path, "fit", file, *arguments)
    if name is None:
        assert done.returncode == 2
        assert done.stderr.startswith("error: name")
        assert [path.name for path in tmp_path.iterdir()] == [file]
        return
    assert done.returncode == 0, done.stderr
    command = f"python -m simulator --config-dir configs_of_mine trace={name} arrival={name}"
    assert done.stdout.strip().endswith(command)
    assert "Constant" in (tmp_path / "configs_of_mine" / "arrival" / f"{name}.yaml").read_text()


def test_chats_without_arrivals_are_simulated_with_arrival_sessions(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt_tokens,output_tokens\n5,1\n9,1\n20,1\n3,1\n9,2\n")
    done = run(tmp_path, "fit", "a.csv", "find_sessions=true")
    assert done.stdout.strip().endswith("--config-dir configs_of_mine trace=a arrival=sessions")


def test_a_trace_without_arrival_times_can_be_described(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt_tokens,output_tokens,arrival_s,think_s\n5,1,,2\n6,1,,3\n")
    done = run(tmp_path, "describe", "a.csv")
    assert done.returncode == 0, done.stderr
    assert "no arrival times" in done.stdout


def test_help_explains_every_key(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    for name in ("picture=", "json=", "output=", "name=", "num_requests=", "on_error=", "find_sessions=", "tokenizer="):
        assert name in done.stdout


# Largest errors of a generator fitted to a published trace: distances of distributions, relative errors of the rest.
MATCHES = {
    "AzureLLMInferenceTrace_conv.csv.gz": {"requests/s": 0.03, "CV of gaps": 0.05, "dispersion in 60 s": 0.25},
    "AzureLLMInferenceTrace_code.csv.gz": {"requests/s": 0.3, "CV of gaps": 0.3, "gap distribution": 0.1},
    "mooncake_conversation.jsonl.gz": {"requests/s": 0.03, "CV of gaps": 0.05, "gap distribution": 0.03},
}


@needs_shared
@pytest.mark.parametrize("name", MATCHES)
def test_a_fit_matches_published_traces(name: str) -> None:
    trace = without_steps(TraceFile(str(SHARED / "data" / "traces" / name)).load(np.random.default_rng(0)))
    errors = {row["name"]: row["error"] for row in match(trace, fit(trace))}
    for figure in ("prompt_tokens distribution", "output_tokens distribution"):
        assert errors[figure] < 0.02
    for figure, bound in MATCHES[name].items():
        assert abs(errors[figure]) < bound, figure


@needs_shared
def test_the_command_reproduces_the_shipped_conversations(tmp_path: Path) -> None:
    source = SHARED / "data" / "traces" / "sharegpt_8k.csv.gz"
    done = run(tmp_path, "fit", str(source), "find_sessions=true", "name=mine", "output=configs")
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "configs" / "trace" / "mine.yaml").read_text()
    shipped = (REPOSITORY / "configs" / "trace" / "sharegpt_sessions.yaml").read_text()
    assert shipped.endswith(written)
    assert load_config("trace=sharegpt_sessions", "arrival=sessions")["trace"].session is not None
