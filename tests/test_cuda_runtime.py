"""The CUDA path without a GPU: timer, graphs, engine and collectives on a stand-in that refuses wrong use."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from profiling.device.environment import CUDA
from profiling.measure import cases, command, communication, symmetric_memory
from profiling.measure.cases import COLLECTIVES, OPERATORS, Case
from profiling.measure.communication import RankBench
from profiling.measure.iterations import EngineBench, engine_cases
from profiling.measure.session import Measured
from profiling.measure.symmetric_memory import takes_one_shot
from profiling.measure.timing import LAUNCHES, CudaTimer
from profiling.serving import recorder
from profiling.serving.attention import AttentionShape, Span, TorchAttention, attention_maker
from profiling.serving.executor import Executor, prepare_libraries
from profiling.serving.inputs import Work
from profiling.serving.loop import ServingLoop
from profiling.serving.operators import Operators
from profiling.tables import Header, read_table
from simulator.cluster import ReplicaSpec
from simulator.model import Model
from tests.helpers import POLICIES, tiny_model, trace_of

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[profiling]'")

from tests.fake_cuda import (  # noqa: E402  # torch is optional
    KERNEL_S,
    LAUNCH_S,
    CudaError,
    FakeCuda,
    FakeTorch,
)
from tests.fake_distributed import FakeDistributed, FakeSymmetricMemory  # noqa: E402
from tests.fake_flashinfer import FakeFlashInfer  # noqa: E402
from tests.flashinfer_signatures import TABLE  # noqa: E402

TABLES: dict[str, dict[str, str]] = json.loads(TABLE.read_text())
NEWEST = max(TABLES)
# The smallest heads that FlashInfer rotates.
MODEL = replace(tiny_model(128), head_dim=64, num_layers=2)


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    """Stand in for CUDA, with tensors of the device in host memory."""
    fake = FakeCuda()
    with fake.on_this_machine():
        yield fake


def flashinfer_of(cuda: FakeCuda, release: str = NEWEST) -> FakeFlashInfer:
    return FakeFlashInfer(release, TABLES[release], cuda)


# --- the stand-in refuses --------------------------------------------------------------------------------


def captured(cuda: FakeCuda, run: Callable[[], object]) -> Any:
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        run()
    return graph


def test_an_event_is_read_only_after_it_has_passed(cuda: FakeCuda) -> None:
    begin, end, untimed = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True), cuda.Event()
    begin.record()
    with pytest.raises(CudaError, match="was not recorded"):
        begin.elapsed_time(end)
    torch.ones(2).mul(2)
    end.record()
    with pytest.raises(CudaError, match="synchronize first"):
        begin.elapsed_time(end)
    end.synchronize()
    assert begin.elapsed_time(end) > 0
    with pytest.raises(CudaError, match="enable_timing"):
        begin.elapsed_time(untimed)


def test_a_graph_is_replayed_only_after_its_capture(cuda: FakeCuda) -> None:
    graph, x = cuda.CUDAGraph(), torch.ones(2)
    for use in (graph.replay, graph.pool):
        with pytest.raises(CudaError, match="before it"):
            use()
    with cuda.graph(graph):
        doubled = x.mul(2)
    x.fill_(3)
    graph.replay()
    assert doubled.tolist() == [6, 6]


@pytest.mark.parametrize(
    ("what", "run"),
    [
        ("item", lambda _: torch.ones(1).item()),
        ("nonzero", lambda _: torch.ones(2).nonzero()),
        ("copy from the host", lambda _: torch.ones(2).to(CUDA)),
        ("copy to the host", lambda _: torch.ones(2).cpu()),
        ("synchronize a stream", lambda cuda: cuda.synchronize()),
        ("record an event", lambda cuda: cuda.Event(enable_timing=True).record()),
        ("empty the cache", lambda cuda: cuda.empty_cache()),
    ],
)
def test_what_cannot_be_captured_is_refused(cuda: FakeCuda, what: str, run: Callable[[FakeCuda], object]) -> None:
    run(cuda)
    with pytest.raises(CudaError, match=what):
        captured(cuda, lambda: run(cuda))


def test_streams_and_graphs_are_not_confused(cuda: FakeCuda) -> None:
    with pytest.raises(TypeError, match="takes a stream"):
        cuda.Stream().wait_stream(cuda)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a graph is captured"), cuda.graph(cuda.Stream()):  # type: ignore[arg-type]
        pass
    graph = captured(cuda, lambda: torch.ones(2))
    with pytest.raises(CudaError, match="captured already"), cuda.graph(graph):
        pass


# --- the timer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_kernels", [1, 3])
def test_the_timer_reads_the_time_of_a_kernel_in_a_graph(cuda: FakeCuda, num_kernels: int) -> None:
    x = torch.ones(4)

    def build() -> Callable[[], object]:
        return lambda: [x.mul(2) for _ in range(num_kernels)]

    sample = CudaTimer(FakeTorch(cuda)).measure(build, 0)
    (graph,) = cuda.graphs
    assert len(graph.kernels) == LAUNCHES * num_kernels
    assert sample.seconds == pytest.approx(num_kernels * KERNEL_S + LAUNCH_S / LAUNCHES)
    assert sample.seconds_std == pytest.approx(0, abs=1e-9)


def test_the_timer_replays_every_cold_copy(cuda: FakeCuda) -> None:
    copies: list[Any] = []

    def build() -> Callable[[], object]:
        weight = torch.zeros(4)
        copies.append(weight)
        return lambda: weight.add_(1)

    cold_bytes = cuda.get_device_properties().L2_cache_size // 10
    CudaTimer(FakeTorch(cuda)).measure(build, cold_bytes)
    assert len(copies) == 21
    runs = [int(weight[0]) for weight in copies]
    assert min(runs) == max(runs) > 20


def test_the_timer_refuses_a_kernel_that_reads_a_value(cuda: FakeCuda) -> None:
    x = torch.ones(4)
    with pytest.raises(CudaError, match="item"):
        CudaTimer(FakeTorch(cuda)).measure(lambda: lambda: x.sum().item(), 0)


# --- the engine ------------------------------------------------------------------------------------------


def blocks(*numbers: int) -> NDArray[np.int32]:
    return np.array(numbers, dtype=np.int32)


CHUNKS = [Span(blocks(7, 2, 5), 6, 4), Span(blocks(0, 9), 8, 0)]
DECODES = [Span(blocks(1, 3, 8, 4), 1, 12), Span(blocks(6), 1, 0)]


@pytest.mark.parametrize("release", TABLES)
@pytest.mark.parametrize(("chunks", "decodes"), [(CHUNKS, DECODES), (CHUNKS, []), ([], DECODES)])
def test_flashinfer_is_planned_for_the_attention_of_torch(
    cuda: FakeCuda, release: str, chunks: list[Span], decodes: list[Span]
) -> None:
    shape = AttentionShape(q_heads=4, kv_heads=2, head_dim=64, block_size=4)
    q = torch.randn(sum(span.num_tokens for span in (*chunks, *decodes)), 4, 64).bfloat16()
    cache = torch.randn(10, 4, 2, 64).bfloat16(), torch.randn(10, 4, 2, 64).bfloat16()
    fake = FakeTorch(cuda)
    attention = attention_maker(fake, flashinfer_of(cuda, release), CUDA)(shape)
    expected = TorchAttention(fake, shape, CUDA)
    for paged in (attention, expected):
        paged.plan(chunks, decodes)
    error = (attention.run(q, cache).float() - expected.run(q, cache).float()).norm()
    assert error < 0.01 * q.float().norm()


@pytest.mark.parametrize("release", TABLES)
def test_operators_of_flashinfer_compute_those_of_torch(cuda: FakeCuda, release: str) -> None:
    ours, theirs = (Operators(FakeTorch(cuda), module) for module in (None, flashinfer_of(cuda, release)))
    x, residual = torch.randn(2, 5, 64).bfloat16()
    weight = torch.randn(64).bfloat16()
    heads, positions = torch.randn(5, 6, 64).bfloat16(), torch.arange(5) * 7
    table = ours.rotation_table(64, 64, CUDA)
    calls: list[Callable[[Operators], Any]] = [
        lambda operators: [operators.rms_norm(x, weight)],
        lambda operators: operators.add_rms_norm(x.clone(), residual.clone(), weight),
        lambda operators: operators.rotate(heads.clone(), 4, positions, table),
        lambda operators: [operators.activate(x, gated=True)],
    ]
    for call in calls:
        for one, other in zip(call(ours), call(theirs), strict=True):
            assert (one.float() - other.float()).norm() < 0.02 * one.float().norm()


def served_tokens(cuda: FakeCuda, flashinfer: Any, graph_sizes: Sequence[int]) -> list[list[int]]:
    """Return the tokens of every iteration of a small trace."""
    executor = Executor(FakeTorch(cuda), flashinfer, MODEL, CUDA, 64, 16, graph_sizes, lambda: cuda.now_s)
    spec = ReplicaSpec(POLICIES[0], untimed, 64, 16, 0.0, 128)
    emitted: list[list[int]] = []

    def execute(work: Work, token_ids: Any) -> Any:
        tokens, times = executor.execute(work, token_ids)
        assert times.launch_s > 0
        assert times.device_s > 0
        emitted.append(tokens.tolist())
        return tokens, times

    trace = trace_of([(0.0, 20, 8), (0.0, 30, 8), (0.0, 9, 8)])
    ServingLoop(trace, spec, MODEL.vocab_size, execute).serve()
    return emitted


def untimed(batch: Any) -> Sequence[float]:
    raise AssertionError(f"the engine must not predict times, here of {batch.num_decodes} decodes")


@pytest.mark.parametrize("release", TABLES)
def test_decodes_from_graphs_emit_the_tokens_of_launched_ones(cuda: FakeCuda, release: str) -> None:
    flashinfer = flashinfer_of(cuda, release)
    launched = served_tokens(cuda, flashinfer, ())
    assert not cuda.graphs
    assert served_tokens(cuda, flashinfer, (1, 2, 4)) == launched
    assert sum(graph.num_replays for graph in cuda.graphs) >= 7


def test_the_engine_is_measured_on_a_gpu(cuda: FakeCuda) -> None:
    model = replace(MODEL, max_model_len=512, num_layers=1)
    everything = engine_cases(model, CUDA, True, 512)
    small = [case for case in everything if case.family == "host" and case["batch"] == 1]
    small += [case for case in everything if case.family == "iteration" and case["num_decodes"] == 1][:1]
    small += [case for case in everything if case.family == "iteration" and case["num_prefill_tokens"] == 64][:1]
    bench = EngineBench(FakeTorch(cuda), flashinfer_of(cuda), model, CUDA)
    samples = {case.operator: bench.measure(case) for case in small}
    bench.release()
    assert {"launch_graph", "launch_kernels", "iteration"} <= set(samples)
    assert all(sample.seconds > 0 for name, sample in samples.items() if sample and name != "synchronize")


def test_a_model_that_does_not_fit_is_measured_without_the_engine(
    cuda: FakeCuda, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    cases = engine_cases(MODEL, CUDA, True, 128)
    bench = EngineBench(FakeTorch(cuda, randn=full), flashinfer_of(cuda), MODEL, CUDA)
    assert [bench.measure(case) for case in cases] == [None] * len(cases)
    assert capsys.readouterr().out.count("the memory is too small for tiny") == 1


@pytest.mark.parametrize("model", [MODEL, replace(MODEL, num_experts=4, experts_per_token=2, dtype="fp8")])
def test_libraries_are_prepared_for_every_model(cuda: FakeCuda, model: Model) -> None:
    flashinfer = flashinfer_of(cuda)
    prepare_libraries(FakeTorch(cuda), flashinfer, model)
    assert {"BatchPrefillWithPagedKVCacheWrapper.run", "BatchDecodeWithPagedKVCacheWrapper.run"} <= set(
        flashinfer.calls
    )


def test_a_trace_is_recorded_on_a_gpu(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "flashinfer_or_none", lambda: flashinfer_of(cuda))
    fake = FakeTorch(cuda, version=SimpleNamespace(cuda="12.9"))
    lengths = ["trace=fixed", "trace.prompt_tokens=20", "trace.output_tokens=5", "trace.num_requests=4"]
    sizes = ["model=llama_small", "model.num_layers=1", "model.max_model_len=64", "kv_cache.num_blocks=40"]
    engine = ["engine=torch_loop", "engine.hosts=null", "engine.decode_graph_sizes=[1,2,4]", "arrival.qps=100"]
    recording = recorder.Recorder(fake, CUDA).record("few", [*sizes, *engine, *lengths])
    assert recording.header.device == "h100_sxm"
    assert np.isfinite(recording.served.completed_s).all()
    assert all(step.device_s > 0 for step in recording.served.iterations)
    assert sum(graph.num_replays for graph in cuda.graphs) > 0


# --- collectives -----------------------------------------------------------------------------------------


def rank_bench(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, num_gpus: int, rank: int = 0
) -> tuple[RankBench, FakeSymmetricMemory]:
    distributed = FakeDistributed(cuda, num_gpus)
    memory = FakeSymmetricMemory(distributed, num_gpus)
    monkeypatch.setattr(symmetric_memory, "import_module", lambda _: memory)
    fake = FakeTorch(cuda, distributed=distributed, ops=memory.ops)
    return RankBench(fake, distributed, torch.device(CUDA, rank), rank, num_gpus), memory


@pytest.mark.parametrize("num_gpus", [2, 16])
def test_all_reduces_are_timed_in_a_graph(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, num_gpus: int) -> None:
    bench, _ = rank_bench(cuda, monkeypatch, num_gpus)
    small, large = bench.measure("all_reduce", 1 << 10), bench.measure("all_reduce", 1 << 22)
    assert [len(graph.kernels) for graph in cuda.graphs] == [LAUNCHES, 4]
    assert small.sample is not None
    assert small.sample.seconds == pytest.approx(KERNEL_S + LAUNCH_S / LAUNCHES)
    assert large.sample is not None
    assert large.sample.seconds == pytest.approx(KERNEL_S + LAUNCH_S / 4)
    assert small.kernel_library == f"torch {torch.__version__}, nccl 2.27.3, CUDA graph"


@pytest.mark.parametrize(("num_bytes", "kernel"), [(1 << 10, "one_shot_all_reduce"), (1 << 20, "two_shot_all_reduce_")])
def test_small_messages_are_reduced_over_symmetric_memory(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, num_bytes: int, kernel: str
) -> None:
    bench, memory = rank_bench(cuda, monkeypatch, 8)
    measured = bench.measure("custom_all_reduce", num_bytes)
    assert measured.sample is not None
    assert set(memory.kernels) == {kernel}
    shots = "one-shot" if kernel.startswith("one") else "two-shot"
    assert measured.kernel_library == f"torch {torch.__version__}, symmetric memory, {shots}, CUDA graph"


def test_without_symmetric_memory_nothing_is_measured(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, memory = rank_bench(cuda, monkeypatch, 8)

    def fail(*_: Any) -> None:
        raise RuntimeError("no peer access")

    monkeypatch.setattr(memory, "rendezvous", fail)
    assert bench.measure("custom_all_reduce", 1 << 10).sample is None
    assert bench.measure("custom_all_reduce", 1 << 11).sample is None
    assert capsys.readouterr().err.count("not measured: no peer access") == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_messages_are_launched_one_by_one(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    bench, _ = rank_bench(cuda, monkeypatch, 2, rank)
    sample = bench.measure("send", 1 << 10).sample
    assert not cuda.graphs
    assert sample is not None
    assert sample.seconds == pytest.approx(KERNEL_S + LAUNCH_S)


def test_engines_reduce_in_one_shot_up_to_a_size() -> None:
    largest = {num_gpus: 512 << 10 if num_gpus == 4 else 256 << 10 for num_gpus in (4, 8)}
    for num_gpus, size in largest.items():
        assert takes_one_shot(size - 1, num_gpus)
        assert not takes_one_shot(size, num_gpus)
    assert takes_one_shot(1 << 22, 2)
    assert not takes_one_shot(1 << 10, 16)


# --- the command -----------------------------------------------------------------------------------------


def test_a_gpu_is_measured_from_start_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cuda = FakeCuda(num_gpus=2)
    distributed = FakeDistributed(cuda, 2)
    memory = FakeSymmetricMemory(distributed, 2)
    parts = {"distributed": distributed, "ops": memory.ops}
    fake = FakeTorch(cuda, **parts, version=SimpleNamespace(cuda="12.9"))
    distributed.is_nccl_available = lambda: True  # type: ignore[attr-defined]

    def measure_group(cases: Sequence[Case], backend: str) -> list[Measured]:
        assert backend == "nccl"
        bench = RankBench(fake, distributed, torch.device(CUDA, 0), 0, 2)
        return [bench.measure(case.operator, case["num_bytes"]) for case in cases]

    monkeypatch.setattr(symmetric_memory, "import_module", lambda _: memory)
    monkeypatch.setattr(command, "measure_group", measure_group)
    monkeypatch.setattr(command, "require_torch", lambda _: fake)
    monkeypatch.setattr(command, "flashinfer_or_none", lambda: flashinfer_of(cuda))
    few = {"CHUNKS": (8,), "CONTEXTS": (0, 16), "BATCHES": (2,), "MIXED_CHUNKS": (8,), "MIXED_BATCHES": (2,)}
    for name, values in (few | {"MIXED_DECODE_CONTEXTS": (16,)}).items():
        monkeypatch.setattr(cases, name, values)
    monkeypatch.setattr(cases, "token_grid", lambda _: [1])
    monkeypatch.setattr(communication, "SIZES", (1 << 8, 1 << 23))
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 100}
    layers = {"num_hidden_layers": 1, "intermediate_size": 128, "max_position_embeddings": 128}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **sizes, **layers}))
    with cuda.on_this_machine():
        folder = command.measure_device(tmp_path, str(tmp_path / "config.json"), "2", CUDA, 32, None)
    header = Header.read(folder)
    assert (header.device, header.num_sms, header.environment["num_gpus"]) == ("h100_sxm", 132, 2)
    assert (header.format_tflops["fp8"], header.l2_mb) == (1979, pytest.approx(0.032768))
    families = ("matmul", "elementwise", "attention", "communication")
    measured = {family: read_table(folder, family) for family in families}
    operators = {operator for table in measured.values() for operator in table["operator"]}
    assert operators == {*OPERATORS} - {"engine", "mixed_attention"}
    assert len(read_table(folder, "mixed_attention")) == 1
    assert set(measured["matmul"]["dtype"]) == {"bf16", "fp8"}
    assert set(measured["communication"]["operator"]) == set(COLLECTIVES)
    assert all((table["seconds"] > 0).all() for table in measured.values())
    assert "0 beyond the time budget" in capsys.readouterr().out
