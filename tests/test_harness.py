"""The measuring harness without a GPU: grids, timing, journal, and its operators in torch on the CPU."""

from collections import Counter
from pathlib import Path

import pytest

from profiling.__main__ import main
from profiling.measure.cases import OPERATORS, Case, layer_cases, token_grid
from profiling.measure.session import Measured, Session
from profiling.measure.timing import Sample, WallTimer, copies_beyond
from profiling.tables import FAMILIES, columns_of, read_table
from tests.helpers import tiny_model

MODEL = tiny_model(64)
CASES = layer_cases(MODEL, [1, 2], OPERATORS, 64)


def in_seconds(case: Case) -> Measured:
    """A fake timer: a microsecond a token."""
    return Measured(Sample(case["num_tokens"] * 1e-6, 1e-6, 0.0), "fake 1")


def test_every_number_of_tokens_to_512_and_every_tile_to_2048_is_measured() -> None:
    grid = token_grid(16384)
    assert grid[:512] == list(range(1, 513))
    assert [count for count in grid if 512 < count <= 2048] == list(range(520, 2049, 8))
    assert grid == sorted(set(grid))
    assert grid[-1] == 16384


def test_every_operator_has_cases_and_powers_of_two_come_first() -> None:
    measured = {case["operator"] for case in CASES}
    assert measured == set(OPERATORS) - {"launch", "all_reduce", "send"}
    sizes = [case["num_tokens"] for case in CASES]
    assert all(size & (size - 1) == 0 for size in sizes[:100])
    assert len(set(CASES)) == len(CASES)


def test_rotated_buffers_do_not_fit_the_cache_twice() -> None:
    assert copies_beyond(40 << 20, 1 << 20) == 64
    assert copies_beyond(40 << 20, 10 << 20) == 8
    assert copies_beyond(40 << 20, 1 << 30) == 1
    built = Counter[str]()

    def build() -> object:
        built["copies"] += 1
        return lambda: built.update(["runs"])

    sample = WallTimer(cache_bytes=1000, repeats=20).measure(build, num_bytes=500)
    assert built["copies"] == 4
    assert built["runs"] >= 20
    assert 0 < sample.seconds_min <= sample.seconds


def test_tables_hold_every_case_in_the_documented_columns(tmp_path: Path) -> None:
    outcome = Session(tmp_path, "tiny_gpu").run(CASES, in_seconds)
    assert (outcome.num_measured, outcome.num_known, outcome.num_left) == (len(CASES), 0, 0)
    found = 0
    for family in ("matmul", "elementwise", "attention"):
        table = read_table(tmp_path, family)
        assert list(table.columns) == columns_of(family)
        assert table["seconds"].to_numpy() == pytest.approx(table["num_tokens"].to_numpy() * 1e-6)
        found += len(table)
    assert found == len(CASES)


def test_a_stopped_session_goes_on_where_it_was(tmp_path: Path) -> None:
    calls: list[Case] = []

    def break_off(case: Case) -> Measured:
        if len(calls) == 10:
            raise KeyboardInterrupt
        calls.append(case)
        return in_seconds(case)

    with pytest.raises(KeyboardInterrupt):
        Session(tmp_path, "tiny_gpu").run(CASES, break_off)
    assert not list(tmp_path.glob("*.journal.csv"))
    outcome = Session(tmp_path, "tiny_gpu").run(CASES, in_seconds)
    assert (outcome.num_known, outcome.num_measured) == (10, len(CASES) - 10)


def test_a_killed_session_loses_at_most_the_line_it_was_writing(tmp_path: Path) -> None:
    case, other = [one for one in CASES if one.family == "matmul"][:2]
    Session(tmp_path, "tiny_gpu").run([case], in_seconds)
    whole = ",".join(map(str, ["tiny_gpu", *other.values, 1e-6, 1e-6, 0.0, "fake 1"]))
    head = ",".join(columns_of("matmul"))
    (tmp_path / "matmul.journal.csv").write_text(f"{head}\n{whole}\n{whole[:20]}")
    outcome = Session(tmp_path, "tiny_gpu").run([case, other], in_seconds)
    assert (outcome.num_known, outcome.num_measured) == (2, 0)


def test_the_time_budget_ends_a_session(tmp_path: Path) -> None:
    seconds = iter(range(1000))
    outcome = Session(tmp_path, "tiny_gpu").run(CASES, in_seconds, time_budget_s=5, clock=lambda: next(seconds))
    assert outcome.num_measured == 4
    assert outcome.num_left == len(CASES) - 4


def test_without_a_gpu_measuring_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[profiling]'")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit) as stop:
        main(["measure", "--model", "llama3_8b", "--output", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert "measuring needs a CUDA GPU" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "foo"], "--model must be a path of a config.json or one of"),
        (["--model", "llama3_8b", "--operators", "foo"], "--operators: foo is not one; allowed are"),
        (["--model", "llama3_8b", "--tp", "3"], "parallel.tp=3 must divide"),
        (["--model", "llama3_8b", "--max-tokens", "0"], "--max-tokens must be at least 1, got 0"),
    ],
)
def test_wrong_options_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["measure", *arguments, "--output", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_every_operator_runs_in_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[profiling]'")
    from profiling.measure.kernels import TorchKernels

    kernels, timer = TorchKernels(torch, "cpu"), WallTimer(repeats=20)
    first = {case["operator"]: case for case in CASES if case["num_tokens"] == 16 and case["tp"] == 2}

    def measure(case: Case) -> Measured:
        prepared = kernels.prepare(case)
        return Measured(timer.measure(prepared.build, prepared.num_bytes), prepared.kernel_library)

    outcome = Session(tmp_path, "cpu").run(list(first.values()), measure)
    assert outcome.num_measured == len(OPERATORS) - 3
    assert set(read_table(tmp_path, "attention")["library"]) == {f"torch {torch.__version__} SDPA, contiguous"}
    for family in ("matmul", "elementwise", "attention"):
        assert list(read_table(tmp_path, family).columns) == ["device", *FAMILIES[family], *columns_of(family)[-4:]]


def test_measured_prefill_attention_is_causal_over_its_context() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[profiling]'")
    from profiling.measure.kernels import TorchKernels

    case = Case("attention", ("tiny", 1, "prefill_attention", 4, 2, 16, 8, 1, 5))
    output = TorchKernels(torch, "cpu").prepare(case).build()()
    again = TorchKernels(torch, "cpu")
    q = again._random(1, 4, 8, 16).double()
    k, v = (again._random(1, 2, 13, 16).repeat_interleave(2, dim=1).double() for _ in range(2))
    scores = q @ k.transpose(-1, -2) / 4
    seen = torch.arange(13)[None, :] <= torch.arange(8)[:, None] + 5
    expected = scores.masked_fill(~seen, float("-inf")).softmax(dim=-1) @ v
    error = (output.double() - expected).norm() / expected.norm()
    assert error < 0.01


def test_messages_between_processes_are_measured() -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[profiling]'")
    from profiling.measure.communication import communication_cases, measure_group

    cases = [case for case in communication_cases("here", 2, ["all_reduce", "send"]) if case["num_bytes"] <= 512]
    assert [case["operator"] for case in cases] == ["all_reduce", "send"] * 2
    assert communication_cases("here", 1, ["all_reduce", "send"]) == []
    samples = measure_group(cases, "gloo")
    assert len(samples) == 4
    assert all(0 < sample.seconds_min <= sample.seconds < 10 for sample in samples)
