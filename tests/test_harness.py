"""The profiling harness without a GPU: token grids, timing, journal, and its operators in torch on the CPU."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from profiling.__main__ import main
from profiling.device.environment import CPU, CUDA
from profiling.measure.cases import COLLECTIVES, FORMATS, OPERATORS, Case, layer_cases, token_grid
from profiling.measure.command import measure_parts
from profiling.measure.iterations import LAUNCHED, WAITED_FOR, engine_cases
from profiling.measure.session import Measured, Session
from profiling.measure.timing import Sample, WallTimer, copies_beyond
from profiling.serving.attention import attention_maker
from profiling.serving.operators import Operators
from profiling.tables import FAMILIES, columns_of, read_table
from simulator.config import load_config
from simulator.model import Model
from tests.helpers import tiny_model

MODEL = tiny_model(64)
CASES = layer_cases(MODEL, [1, 2], OPERATORS, 64, FORMATS)
TABLES = ("matmul", "elementwise", "attention", "mixed_attention")
# Cases of each operator that run fast: 16 tokens, or the smallest mixed batch.
SMALL = [case for case in CASES if case["tp"] == 2 and (case["num_tokens"] == 16 or case.family == "mixed_attention")]


def fake_measurement(case: Case) -> Measured:
    """Fake a measurement of one microsecond per token."""
    return Measured(Sample(case["num_tokens"] * 1e-6, 1e-6, 0.0), "fake 1")


def test_the_grid_has_every_count_up_to_512_and_every_tile_up_to_2048() -> None:
    grid = token_grid(16384)
    assert grid[:512] == list(range(1, 513))
    eighths, after_edges = range(520, 2049, 8), range(513, 2049, 64)
    assert [count for count in grid if 512 < count <= 2048] == sorted([*eighths, *after_edges])
    assert grid == sorted(set(grid))
    assert grid[-1] == 16384


def test_every_operator_has_cases_and_powers_of_two_come_first() -> None:
    measured = {case.operator for case in CASES}
    assert measured == set(OPERATORS) - {"engine", *COLLECTIVES}
    sizes = [case["num_tokens"] for case in CASES]
    assert all(size & (size - 1) == 0 for size in sizes[:100])
    assert len(set(CASES)) == len(CASES)


def test_a_short_budget_goes_to_the_operators_that_every_profile_needs() -> None:
    positions = {case.operator: position for position, case in reversed(list(enumerate(CASES)))}  # of the first case
    later = {positions.pop("mixed_attention"), positions.pop("top_k_top_p")}
    assert max(positions.values()) < min(later)


def test_rotated_buffers_exceed_the_cache() -> None:
    assert copies_beyond(40 << 20, 1 << 20) == 64
    assert copies_beyond(40 << 20, 10 << 20) == 8
    assert copies_beyond(40 << 20, 1 << 30) == 1
    assert copies_beyond(40 << 20, 0) == 1
    built = Counter[str]()

    def build() -> object:
        built["copies"] += 1
        return lambda: built.update(["runs"])

    sample = WallTimer(cache_bytes=1000, repeats=20).measure(build, cold_bytes=500)
    assert built["copies"] == 4
    assert built["runs"] >= 20
    assert 0 < sample.seconds_min <= sample.seconds


def test_tables_hold_every_case_in_the_documented_columns(tmp_path: Path) -> None:
    outcome = Session(tmp_path, "tiny_gpu").run(CASES, fake_measurement)
    assert (outcome.num_measured, outcome.num_known, outcome.num_left) == (len(CASES), 0, 0)
    num_rows = 0
    for family in TABLES:
        table = read_table(tmp_path, family)
        assert list(table.columns) == columns_of(family)
        assert table["seconds"].to_numpy() == pytest.approx(table["num_tokens"].to_numpy() * 1e-6)
        num_rows += len(table)
    assert num_rows == len(CASES)


def test_a_stopped_session_continues_where_it_stopped(tmp_path: Path) -> None:
    calls: list[Case] = []

    def interrupt(case: Case) -> Measured:
        if len(calls) == 10:
            raise KeyboardInterrupt
        calls.append(case)
        return fake_measurement(case)

    with pytest.raises(KeyboardInterrupt):
        Session(tmp_path, "tiny_gpu").run(CASES, interrupt)
    assert not list(tmp_path.glob("*.journal.csv"))
    outcome = Session(tmp_path, "tiny_gpu").run(CASES, fake_measurement)
    assert (outcome.num_known, outcome.num_measured) == (10, len(CASES) - 10)


def test_a_killed_session_loses_at_most_the_line_it_was_writing(tmp_path: Path) -> None:
    first, second = [case for case in CASES if case.family == "matmul"][:2]
    Session(tmp_path, "tiny_gpu").run([first], fake_measurement)
    whole = ",".join(map(str, ["tiny_gpu", *second.values, 1e-6, 1e-6, 0.0, "fake 1"]))
    head = ",".join(columns_of("matmul"))
    (tmp_path / "matmul.journal.csv").write_text(f"{head}\n{whole}\n{whole[:20]}")
    outcome = Session(tmp_path, "tiny_gpu").run([first, second], fake_measurement)
    assert (outcome.num_known, outcome.num_measured) == (2, 0)


def test_the_time_budget_ends_a_session(tmp_path: Path) -> None:
    seconds = iter(range(1000))
    outcome = Session(tmp_path, "tiny_gpu").run(CASES, fake_measurement, time_budget_s=5, clock=lambda: next(seconds))
    assert outcome.num_measured == 4
    assert outcome.num_left == len(CASES) - 4


@pytest.mark.torch
def test_measuring_without_a_gpu_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
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
        (["--model", "llama3_8b", "--operators", "foo"], "--operators must be one of "),
        (["--model", "llama3_8b", "--tp", "3"], "parallel.tp=3 must divide"),
        (["--model", "llama3_8b", "--max-tokens", "0"], "--max-tokens must be an integer of at least 1, got 0"),
    ],
)
def test_invalid_options_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["measure", *arguments, "--output", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def kernels_on_cpu(torch: Any, model: Model = MODEL) -> Any:
    from profiling.measure.kernels import TorchKernels

    return TorchKernels(model, Operators(torch), CPU, attention_maker(torch, None, CPU))


@pytest.mark.torch
def test_every_operator_runs_in_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[profiling]'")
    kernels, timer = kernels_on_cpu(torch), WallTimer(repeats=20)
    first = {case.operator: case for case in SMALL}

    def measure(case: Case) -> Measured:
        prepared = kernels.prepare(case)
        return Measured(timer.measure(prepared.build, prepared.cold_bytes), prepared.kernel_library)

    outcome = Session(tmp_path, "cpu").run(list(first.values()), measure)
    assert outcome.num_measured == len(OPERATORS) - len({"engine", *COLLECTIVES})
    assert set(read_table(tmp_path, "attention")["library"]) == {f"torch {torch.__version__} SDPA, gathered blocks"}
    assert "scaled_mm" in " ".join(read_table(tmp_path, "matmul").query("dtype == 'fp8'")["library"])
    for family in TABLES:
        assert list(read_table(tmp_path, family).columns) == ["device", *FAMILIES[family], *columns_of(family)[-4:]]


@pytest.mark.torch
def test_kernel_outputs_have_the_shape_of_their_case() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[profiling]'")
    kernels = kernels_on_cpu(torch)
    for case in SMALL:
        output = kernels.prepare(case).build()()
        tokens = case["num_tokens"]
        if case.family == "matmul":
            assert output.shape == (tokens, case["n"])
        elif case.family == "attention":
            assert output.shape == (tokens, case["q_heads"], case["head_dim"])
        elif case.family == "mixed_attention":
            assert output.shape == (tokens + case["num_decodes"], case["q_heads"], case["head_dim"])
        elif case.operator in ("rope", "add_norm"):  # two tensors, read and written
            assert 2 * sum(tensor.numel() for tensor in output) == tokens * case["width"]
        elif case.operator in ("input_norm", "final_norm", "post_attention_norm", "embedding"):
            assert 2 * output.numel() == tokens * case["width"]
        elif case.operator in ("sampling", "top_k_top_p"):
            assert output.shape == (tokens,)
            assert 0 <= int(output.min()) <= int(output.max()) < case["width"]


@pytest.mark.torch
def test_a_product_in_fp8_is_that_of_half_precision() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[profiling]'")
    operators, generator = Operators(torch), torch.Generator().manual_seed(0)
    x, weight = (torch.randn(rows, 64, generator=generator).bfloat16() for rows in (16, 32))
    expected = operators.linear(x, weight).float()
    error = operators.linear_fp8(x, *operators.quantize(weight)).float() - expected
    assert 0 < error.norm() < 0.06 * expected.norm()


@pytest.mark.torch
def test_the_sampler_draws_among_the_most_probable_tokens() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[profiling]'")
    probabilities = torch.tensor([0.1, 0.4, 0.2, 0.3])
    logits = probabilities.log().expand(2000, 4)
    for top_k, top_p, allowed in ((4, 1.0, {0, 1, 2, 3}), (2, 1.0, {1, 3}), (4, 0.6, {1, 3}), (1, 1.0, {1})):
        limits = torch.full((2000,), top_k, dtype=torch.int32), torch.full((2000,), top_p)
        drawn = Operators(torch).sample_top_k_top_p(logits, *limits)
        assert set(drawn.tolist()) == allowed
    shares = Operators(torch).sample_top_k_top_p(logits, torch.full((2000,), 2), torch.ones(2000)).eq(1).float().mean()
    assert float(shares) == pytest.approx(4 / 7, abs=0.06)


@pytest.mark.torch
def test_weights_are_cold_and_activations_are_not() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[profiling]'")
    kernels = kernels_on_cpu(torch)
    sixteen = [case for case in CASES if case["num_tokens"] == 16 and case["tp"] == 1]
    by_name = {case.operator: case for case in sixteen}
    products = {case["dtype"]: case for case in sixteen if case.operator == "qkv_proj"}
    qkv = products["bf16"]
    assert kernels.prepare(products["fp8"]).cold_bytes == qkv["k"] * qkv["n"]
    prepared = kernels.prepare(qkv)
    assert prepared.cold_bytes == 2 * qkv["k"] * qkv["n"]
    # Another copy of the weights gives another product of the same input.
    assert prepared.build()().shape == prepared.build()().shape
    norm = kernels.prepare(by_name["input_norm"])
    assert norm.cold_bytes == 0
    assert norm.build() is norm.build()


@pytest.mark.torch
@pytest.mark.slow
def test_the_engine_is_measured_on_made_up_batches(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[profiling]'")
    torch.set_num_threads(1)  # the tests share the cores
    sizes = ["--model", "llama_small", "--max-tokens", "300", "--operators", "engine", "--time-budget-s", "60"]
    main(["measure", "--on", "cpu", *sizes, "--output", str(tmp_path)])
    host, iterations = (read_table(tmp_path / "cpu", family) for family in ("host", "iteration"))
    assert set(host["operator"]) == {"schedule", "prepare_inputs", "synchronize", "process_outputs"}
    assert set(host["batch"]) == {1, 2, 4, 8, 16, 32, 64, 128}
    prefills = iterations[iterations["num_decodes"] == 0].groupby("num_prefill_tokens")["seconds"].median()
    assert prefills[256] > prefills[64] > 0
    decodes = iterations[iterations["num_prefill_tokens"] == 0].set_index("num_decodes")["seconds"]
    assert decodes[128] > decodes[8]


def slow_measurement(case: Case) -> Measured:
    """Fake a measurement that takes 20 ms."""
    time.sleep(0.02)
    return fake_measurement(case)


def test_a_short_budget_measures_some_of_each_part(tmp_path: Path) -> None:
    parts = [[case for case in CASES if case.family == family] for family in ("matmul", "elementwise")]
    outcome = measure_parts(Session(tmp_path, "tiny_gpu"), parts, slow_measurement, 1.0)
    counts = [len(read_table(tmp_path, family)) for family in ("matmul", "elementwise")]
    assert all(0 < count < len(part) for count, part in zip(counts, parts, strict=True))
    assert (outcome.num_measured, outcome.num_left) == (sum(counts), sum(map(len, parts)) - sum(counts))


@pytest.mark.torch
def test_an_empty_measurement_succeeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[profiling]'")
    arguments = ["measure", "--on", "cpu", "--model", "llama_small", "--operators", "all_reduce"]
    main([*arguments, "--output", str(tmp_path)])
    assert "0 measured" in capsys.readouterr().out


def test_all_operators_are_measured_at_tile_edges_before_sizes_in_between() -> None:
    layer = layer_cases(load_config("model=llama3_8b")["deployment"].model, [1], OPERATORS, 4096)
    positions = {(case.operator, case["num_tokens"]): position for position, case in enumerate(layer)}
    for operator in ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"):
        assert positions[operator, 193] < positions["activation", 200]
        assert positions[operator, 1985] < positions["activation", 8 * 9]
        assert positions[operator, 320] < positions["activation", 576]
    for later in ("mixed_attention", "top_k_top_p"):
        assert positions["prefill_attention", 192] < positions[later, 64]


def test_only_gpu_cases_launch_kernels_and_capture_graphs() -> None:
    model = tiny_model(2048)
    on_gpu = {case["operator"] for case in engine_cases(model, CUDA, True, 2048)}
    assert on_gpu == {*WAITED_FOR, *LAUNCHED, "iteration"}
    assert "launch_graph" not in {case["operator"] for case in engine_cases(model, CUDA, False, 2048)}
    short = engine_cases(model, CUDA, True, 128)
    assert {case.family for case in short} == {"iteration"}
    assert all(case["num_prefill_tokens"] + case["prefill_context"] <= 128 for case in short)


@pytest.mark.torch
@pytest.mark.slow
def test_messages_between_processes_are_measured() -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[profiling]'")
    from profiling.measure.communication import communication_cases, measure_group

    cases = [case for case in communication_cases("here", 2, ["all_reduce", "send"]) if case["num_bytes"] <= 512]
    assert [case["operator"] for case in cases] == ["all_reduce", "send"] * 2
    assert communication_cases("here", 1, ["all_reduce", "send"]) == []
    samples = measure_group(cases, "gloo")
    assert len(samples) == 4
    assert all(one.sample and 0 < one.sample.seconds_min <= one.sample.seconds < 10 for one in samples)
    (custom,) = communication_cases("here", 2, ["custom_all_reduce"])[:1]
    assert [one.sample for one in measure_group([custom], "gloo")] == [None]
