"""Workloads: generators match their published statistics, readers name what is wrong."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces.csv_file import CSVFile

from simulator.config import load_config
from tests.helpers import SHARED, needs_shared
from traces import Trace
from traces.arrival import Constant, Poisson, Recorded
from traces.lengths import LogNormal, SplitNormal, Table
from traces.synthetic import Fixed

# Median, P90 and standard deviation of prompt and output: Sarathi-Serve (OSDI 2024), Table 2, with the
# output deviations of the two datasets the right way round.
PUBLISHED = {
    "sharegpt": ((1730, 5696, 2088.9), (415, 834, 265.6)),
    "arxiv": ((7059, 12985, 3638), (208, 371, 101)),
}
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", PUBLISHED)
def test_generated_lengths_match_the_published_statistics(name: str, seed: int) -> None:
    trace = load_config(f"trace={name}", "trace.num_requests=10000", f"seed={seed}")["trace"]
    for tokens, (median, p90, std) in zip((trace.prompt_tokens, trace.output_tokens), PUBLISHED[name], strict=True):
        assert np.median(tokens) == pytest.approx(median, rel=0.02)
        assert np.quantile(tokens, 0.9) == pytest.approx(p90, rel=0.02)
        assert tokens.std() == pytest.approx(std, rel=0.05)


@pytest.mark.parametrize(("name", "cut"), [("sharegpt", 8192), ("arxiv", 16384)])
def test_generated_requests_are_cut_by_their_total_length(name: str, cut: int) -> None:
    trace = load_config(f"trace={name}", "trace.num_requests=20000")["trace"]
    assert (trace.prompt_tokens + trace.output_tokens).max() <= cut
    assert min(trace.prompt_tokens.min(), trace.output_tokens.min()) >= 1


@given(st.sampled_from([Table([1, 5, 9, 400]), LogNormal(100, 0.7), SplitNormal(200, 30, 90)]), st.floats(0.001, 0.999))
def test_level_undoes_quantile(lengths: Table | LogNormal | SplitNormal, level: float) -> None:
    assert lengths.level(lengths.quantile(np.array([level])))[0] == pytest.approx(level, abs=1e-9)


def test_poisson_gaps_are_exponential_and_unclipped() -> None:
    trace = Poisson(qps=2.0).assign(Fixed(num_requests=200_000).load(RNG), np.random.default_rng(4))
    assert trace.arrival_s is not None
    gaps = np.diff(trace.arrival_s, prepend=0.0)
    error = 4 / len(gaps) ** 0.5
    assert gaps.mean() == pytest.approx(0.5, rel=error)
    assert gaps.std() == pytest.approx(0.5, rel=2 * error)
    for level in (0.01, 0.5, 0.99, 0.9999):
        assert np.mean(gaps <= -0.5 * np.log(1 - level)) == pytest.approx(level, abs=error)
    assert gaps.max() > 0.5 * 9


def test_constant_gaps_are_equal() -> None:
    trace = Constant(qps=4.0).assign(Fixed(num_requests=5).load(RNG), RNG)
    assert trace.arrival_s is not None
    assert trace.arrival_s.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_a_trace_without_arrival_times_cannot_be_replayed() -> None:
    with pytest.raises(ValueError, match="arrival_s"):
        Recorded().assign(Fixed().load(RNG), RNG)


def test_more_requests_do_not_change_the_arrivals_of_the_first_ones() -> None:
    few, many = (load_config(f"trace.num_requests={count}")["trace"].arrival_s for count in (10, 1000))
    assert np.array_equal(few, many[:10])


def write(path: Path, text: str) -> str:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz", "compressed_without_saying.csv"])
def test_files_are_read_plain_and_compressed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    text = "request_id,arrival_s,prompt_tokens,output_tokens\na,0.5,10,2\nb,1.5,20,3\n"
    write(path, text)
    if name.startswith("compressed"):
        path.write_bytes(gzip.compress(text.encode()))
    trace = CSVFile(str(path)).load(RNG)
    assert trace.prompt_tokens.tolist() == [10, 20]
    assert trace.output_tokens.tolist() == [2, 3]
    assert trace.arrival_s is not None
    assert trace.arrival_s.tolist() == [0.5, 1.5]
    assert trace.request_id is not None
    assert trace.request_id.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    "header", ["prompt_tokens,output_tokens", "num_prefill_tokens,num_decode_tokens", "ContextTokens,GeneratedTokens"]
)
def test_column_names_of_published_traces_are_known(tmp_path: Path, header: str) -> None:
    trace = CSVFile(write(tmp_path / "trace.csv", f"{header}\n10,2\n")).load(RNG)
    assert (trace.prompt_tokens[0], trace.output_tokens[0], trace.arrival_s) == (10, 2, None)


def test_timestamps_become_seconds_since_the_first_row(tmp_path: Path) -> None:
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,48,10\n2023-11-16 18:17:05.0319600,3,8\n"
    )
    trace = CSVFile(write(tmp_path / "trace.csv", text)).load(RNG)
    assert trace.arrival_s == pytest.approx([0.0, 1.052])


def test_rows_are_the_first_ones_and_never_repeated(tmp_path: Path) -> None:
    path = write(tmp_path / "trace.csv", "prompt_tokens,output_tokens\n" + "".join(f"{n},1\n" for n in range(1, 11)))
    assert CSVFile(path, num_requests=3).load(RNG).prompt_tokens.tolist() == [1, 2, 3]
    assert len(CSVFile(path, num_requests=100).load(RNG)) == 10
    assert len(CSVFile(path).load(RNG)) == 10


HEADER = "prompt_tokens,output_tokens,arrival_s,request_id\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no header in its first line"),
        ("prompt_tokens,output_tokens\n10,5,7\n20,6,8\n", "has rows of more fields than its header"),
        ("prompt_tokens,output_tokens\n10,5,\n20,6,\n", "has rows of more fields than its header"),
        (HEADER, "has no requests"),
        ("a,b\n1,2\n", "has no column prompt_tokens or num_prefill_tokens or ContextTokens; it has: a, b"),
        (HEADER + "5,3,0,a\n7,x,1,b\n", "line 3: output_tokens must be an integer of at least 1"),
        (HEADER + "5,3,0,a\n\n7,,1,b\n", "line 4: output_tokens must be an integer"),
        (HEADER + "0,3,0,a\n", "line 2: prompt_tokens must be an integer of at least 1 and below 2^31, got '0'"),
        (HEADER + "5,-3,0,a\n", "got '-3'"),
        (HEADER + "5.5,3,0,a\n", "got '5.5'"),
        (HEADER + "nan,3,0,a\n", "got 'nan'"),
        (HEADER + "1e99,3,0,a\n", "got '1e99'"),
        (HEADER + "5,3,inf,a\n", "line 2: arrival_s must be a finite number"),
        (HEADER + "5,3,-1,a\n", "line 2: arrival_s must be a finite number of at least 0"),
        (HEADER + "5,3,2,a\n5,3,1,b\n", "line 3: arrival_s must not be before that of the row above"),
        (HEADER + "5,3,0,a\n5,3,1,a\n", "line 3: request_id must be unique"),
        (HEADER + "5,3,0,a\n5,3,1,a,9,9\n", "line 3"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = write(tmp_path / "trace.csv", text)
    with pytest.raises(ValueError, match=r"trace\.csv") as error:
        CSVFile(path).load(RNG)
    assert complaint in str(error.value)


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress((HEADER + "5,3,0,a\n" * 1000).encode())[:60])
    with pytest.raises(ValueError, match=r"cannot read .*trace\.csv\.gz"):
        CSVFile(str(path)).load(RNG)


@pytest.mark.parametrize(
    "arrays",
    [
        {"prompt_tokens": np.array([1, 2]), "output_tokens": np.array([1])},
        {"prompt_tokens": np.array([], dtype=int), "output_tokens": np.array([], dtype=int)},
        {"prompt_tokens": np.array([0]), "output_tokens": np.array([1])},
        {"prompt_tokens": np.array([1.5]), "output_tokens": np.array([1])},
        {"prompt_tokens": np.array([1, 1]), "output_tokens": np.array([1, 1]), "arrival_s": np.array([1.0, 0.0])},
        {"prompt_tokens": np.array([1]), "output_tokens": np.array([1]), "arrival_s": np.array([np.nan])},
    ],
)
def test_impossible_traces_cannot_be_built(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"entries|at least|decreasing"):
        Trace(**arrays)


@needs_shared
@pytest.mark.parametrize(
    ("name", "num_requests", "has_arrivals"),
    [
        ("sharegpt_8k.csv.gz", 30731, False),
        ("arxiv_4k.csv.gz", 28257, False),
        ("AzureLLMInferenceTrace_conv.csv.gz", 19366, True),
        ("AzureLLMInferenceTrace_code.csv.gz", 8819, True),
    ],
)
def test_published_traces_are_read_whole(name: str, num_requests: int, has_arrivals: bool) -> None:
    trace = CSVFile(str(SHARED / "data" / "traces" / name)).load(RNG)
    assert len(trace) == num_requests
    assert (trace.arrival_s is not None) == has_arrivals
