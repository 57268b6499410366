"""The serving engine that makes recordings, on the CPU: its logits and its logs are correct."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from profiling.__main__ import main
from profiling.device.environment import CPU, CUDA
from profiling.serving.attention import AttentionShape, Span, TorchAttention, attention_maker
from profiling.serving.block_tables import BlockTables
from profiling.serving.decoder import Decoder
from profiling.serving.executor import ExecutionTimes, Executor
from profiling.serving.inputs import InputMaker, Tokens, Work
from profiling.serving.loop import Served, ServingLoop
from profiling.serving.operators import Operators, operators_on
from profiling.serving.recording import ITERATIONS, Recording, recording_folders
from profiling.tables import Header
from profiling.validate.errors import disturbed_iterations
from profiling.validate.replay import ReplayError, replay
from simulator.cluster import ReplicaSpec
from simulator.config import load_config
from simulator.replica import Batch
from simulator.schedulers import VLLMV1, Scheduler
from tests.helpers import POLICIES, REPOSITORY, tiny_model, trace_of
from traces import Trace

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[profiling]'")
torch.set_num_threads(1)  # parallel tests share the cores

SHAPE = AttentionShape(q_heads=4, kv_heads=2, head_dim=16, block_size=4)
SMALL = ("model=llama_small", "model.max_model_len=256", "engine=torch_loop", "scheduler.token_budget=32")
FEW = (*SMALL, "trace=fixed", "trace.prompt_tokens=40", "trace.output_tokens=5", "trace.num_requests=6")


def blocks(*numbers: int) -> NDArray[np.int32]:
    return np.array(numbers, dtype=np.int32)


def relative_error(result: Any, expected: Any) -> float:
    return float((result.double() - expected.double()).norm() / expected.double().norm())


# --- attention over a paged cache ------------------------------------------------------------------------

CHUNKS = [Span(blocks(7, 2, 5), 6, 4), Span(blocks(0, 9), 7, 0)]
DECODES = [Span(blocks(1, 3, 8, 4), 1, 12), Span(blocks(6), 1, 0)]


def reference_attention(q: Any, cache: tuple[Any, Any], spans: Sequence[Span]) -> Any:
    """Compute causal attention by its definition, in double precision."""
    out, start = [], 0
    for span in spans:
        keys, values = (part[torch.from_numpy(span.blocks).long()].flatten(0, 1)[: span.total] for part in cache)
        keys, values = (part.double().repeat_interleave(2, dim=1) for part in (keys, values))
        queries = q[start : start + span.num_tokens].double()
        scores = torch.einsum("qhd,khd->hqk", queries, keys) / 16**0.5
        seen = torch.arange(span.total)[None, :] <= torch.arange(span.num_tokens)[:, None] + span.context
        weights = scores.masked_fill(~seen, float("-inf")).softmax(dim=-1)
        out.append(torch.einsum("hqk,khd->qhd", weights, values))
        start += span.num_tokens
    return torch.cat(out)


@pytest.mark.parametrize("device", [CPU, pytest.param(CUDA, marks=pytest.mark.gpu)])
@pytest.mark.parametrize(("chunks", "decodes"), [(CHUNKS, DECODES), (CHUNKS, []), ([], DECODES)])
def test_attention_over_scattered_blocks_is_causal_attention(
    chunks: list[Span], decodes: list[Span], device: str
) -> None:
    if device == CUDA and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    generator = torch.Generator().manual_seed(0)
    shape = SHAPE if device == CPU else AttentionShape(4, 2, 64, 4)
    flashinfer = None if device == CPU else pytest.importorskip("flashinfer")
    num_tokens = sum(span.num_tokens for span in (*chunks, *decodes))
    q = torch.randn(num_tokens, 4, shape.head_dim, generator=generator, dtype=torch.bfloat16)
    sizes = 10, 4, 2, shape.head_dim
    cache = tuple(torch.randn(*sizes, generator=generator, dtype=torch.bfloat16) for _ in range(2))
    attention = attention_maker(torch, flashinfer, device)(shape)
    attention.plan(chunks, decodes)
    result = attention.run(q.to(device), tuple(part.to(device) for part in cache)).cpu()
    scaled = q * (16**0.5 / shape.head_dim**0.5)  # the reference divides by the root of 16
    assert relative_error(result, reference_attention(scaled, cache, [*chunks, *decodes])) < 0.02


# --- a decoder -------------------------------------------------------------------------------------------


class Engine:
    """Decoder with a KV cache; a call computes one iteration and returns the logits."""

    def __init__(self) -> None:
        self.tables = BlockTables(64, 4, 128)
        self.decoder = Decoder(tiny_model(128), Operators(torch), CPU, 64, 4)
        self.inputs = InputMaker(torch, CPU, 4, padding_block=64)
        self.attention = TorchAttention(torch, SHAPE, CPU)

    def __call__(self, known: Sequence[Tokens], chunks: Sequence[tuple[int, int, int]], decodes: dict[int, int]) -> Any:
        """Compute chunks (request, new tokens, cached tokens) and decodes (cached tokens by request)."""
        work = Work(
            [*(request for request, _, _ in chunks), *decodes],
            [Span(self.tables.extend(request, new + cached), new, cached) for request, new, cached in chunks],
            [Span(self.tables.extend(request, cached + 1), 1, cached) for request, cached in decodes.items()],
        )
        self.attention.plan(work.chunks, work.decodes)
        with torch.inference_mode():
            return self.decoder.logits(self.inputs.make(work, known), self.attention)


def test_a_chunked_prompt_beside_decodes_has_the_logits_of_the_whole_prompt() -> None:
    random = np.random.default_rng(0)
    known = [random.integers(0, 100, 30) for _ in range(2)]
    whole = Engine()(known, [(0, 24, 0)], {})
    engine = Engine()
    engine(known, [(1, 9, 0), (0, 10, 0)], {})
    engine(known, [(0, 5, 10)], {1: 9})
    in_chunks = engine(known, [(0, 9, 15)], {1: 10})
    assert relative_error(in_chunks[:1], whole) < 0.03
    # A decode is a chunk of one token.
    again = Engine()
    again(known, [(1, 10, 0)], {})
    assert relative_error(in_chunks[1:], again(known, [], {1: 10})) < 0.03
    # A different last token gives different logits.
    changed = [known[0].copy(), known[1]]
    changed[0][23] += 1
    assert relative_error(Engine()(changed, [(0, 24, 0)], {}), whole) > 0.1


def test_kv_blocks_stay_allocated_until_they_are_released() -> None:
    tables = BlockTables(5, 4, 64)
    first = tables.extend(7, 9).tolist()
    assert len(first) == 3
    assert tables.extend(7, 12).tolist() == first
    second = tables.extend(8, 5).tolist()
    assert sorted(first + second) == [0, 1, 2, 3, 4]
    with pytest.raises(RuntimeError, match="request 8 needs 1 more KV blocks, 0 are free"):
        tables.extend(8, 9)
    tables.release([7])
    assert tables.num_free == 3
    assert set(tables.extend(8, 9).tolist()) > set(second)


# --- the loop --------------------------------------------------------------------------------------------


class FakeEngine:
    """Engine with made-up iteration times that records the work it is given."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.works: list[Work] = []

    def execute(self, work: Work, known: Sequence[Tokens]) -> tuple[NDArray[np.int64], ExecutionTimes]:
        self.works.append(work)
        num_tokens = sum(span.num_tokens for span in work.spans)
        context = sum(span.context for span in work.spans)
        self.now_s += 0.01 + 0.0003 * num_tokens + 0.000001 * context
        return np.full(len(work.requests), 5), ExecutionTimes(0.0, 0.001, 0.002)

    def clock(self) -> float:
        self.now_s += 1e-6  # the host takes time too
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def no_time(batch: Batch) -> Sequence[float]:
    raise AssertionError(f"the engine must not predict times, here of {batch.num_decodes} decodes")


def serve(trace: Trace, policy: Scheduler, num_blocks: int) -> tuple[Served, FakeEngine]:
    engine = FakeEngine()
    spec = ReplicaSpec(policy, no_time, num_blocks, 16, 0.01, 512)
    return ServingLoop(trace, spec, 100, engine.execute, engine.clock, engine.sleep).serve(), engine


def recorded(trace: Trace, served: Served, *overrides: str) -> Recording:
    header = Header("cpu", "made up", "none", "2026-01-01", "none", 1, 1.0, 1.0)
    return Recording(
        "made_up", header, CPU, ["device=cpu", "model=llama_small", "engine=none", *overrides], trace, served
    )


def crowded(num_requests: int = 40) -> Trace:
    """Return requests that exceed the KV memory, in bursts with pauses between them."""
    random = np.random.default_rng(1)
    arrival_s = np.cumsum(random.exponential(0.05, num_requests) + (np.arange(num_requests) % 13 == 12) * 8.0)
    lengths = random.integers(1, 120, (2, num_requests)).tolist()
    return trace_of(list(zip(arrival_s.tolist(), *lengths, strict=True)))


OPTIONS = {
    "Sarathi": "sarathi",
    "VLLM": "vllm",
    "Orca": "orca",
    "FasterTransformer": "faster_transformer",
    "ChunkedPrefills": "chunked_prefills",
    "VLLMV1": "vllm_v1",
}


SYNCHRONOUS = [policy for policy in POLICIES if not getattr(policy, "async_scheduling", False)]


@pytest.mark.parametrize("policy", SYNCHRONOUS, ids=lambda policy: type(policy).__name__)
def test_the_simulator_repeats_the_decisions_of_the_loop(policy: Scheduler, tmp_path: Path) -> None:
    trace = crowded()
    served, _ = serve(trace, policy, num_blocks=40)
    values = {field.name: getattr(policy, field.name) for field in fields(policy)}  # type: ignore[arg-type]
    numbers = {name: value for name, value in values.items() if isinstance(value, int)}
    options = [
        f"scheduler={OPTIONS[type(policy).__name__]}",
        *(f"scheduler.{name}={numbers[name]}" for name in numbers),
    ]
    sizes = ("kv_cache.num_blocks=40", "model.max_model_len=512", "kv_cache.prefix_caching=false")
    recording = recorded(trace, served, *options, *sizes)
    recording.write(tmp_path)
    result = replay(Recording.read(tmp_path))
    assert result.summary["num_finished"] == 40
    assert result.column("completed_s") == pytest.approx(served.completed_s, abs=1e-6)


def test_the_loop_refuses_async_scheduling_and_prefix_caching() -> None:
    for policy, caching in ((VLLMV1(async_scheduling=True), False), (VLLMV1(), True)):
        spec = ReplicaSpec(policy, no_time, 40, 16, 0.0, 512, prefix_caching=caching)
        engine = FakeEngine()
        with pytest.raises(ValueError, match=r"kv_cache.prefix_caching=false and scheduler.async_scheduling=false"):
            ServingLoop(crowded(), spec, 100, engine.execute, engine.clock, engine.sleep)


def test_full_kv_memory_preempts_and_emitted_tokens_are_recomputed() -> None:
    served, engine = serve(crowded(), POLICIES[0], num_blocks=20)
    victims = [request for iteration in served.iterations for request in iteration.preempted]
    assert victims
    totals = [
        (span.context, span.total)
        for work in engine.works
        for request, span in zip(work.requests, work.spans, strict=True)
        if request == victims[0]
    ]
    starts = [index for index, (context, _) in enumerate(totals) if context == 0]
    assert len(starts) == 1 + victims.count(victims[0])
    # The request recomputes the tokens that it had emitted and continues without skipping any.
    before, again = totals[: starts[1]], totals[starts[1] :]
    assert max(total for _, total in again) > max(total for _, total in before)
    assert all(context == total for (_, total), (context, _) in pairwise(again) if context)


def test_iterations_are_back_to_back_until_idle_and_an_arrival_starts_the_next() -> None:
    trace = trace_of([(0.5, 20, 3), (0.5, 20, 3), (9.0, 20, 3)])
    served, _ = serve(trace, POLICIES[0], num_blocks=40)
    starts = [iteration.start_s for iteration in served.iterations]
    ends = [iteration.end_s for iteration in served.iterations]
    assert starts[0] == 0.5
    assert starts[1:3] == ends[:2]
    assert starts[3] == 9.0
    assert [len(iteration.chunks) for iteration in served.iterations][:3] == [2, 0, 0]
    assert served.first_token_s.tolist() == [ends[0], ends[0], ends[3]]
    for iteration in served.iterations:
        parts = iteration.schedule_s + iteration.prepare_s + iteration.finish_s
        assert 0 < parts < iteration.end_s - iteration.start_s


def test_a_modified_recording_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import gzip

    trace = crowded()
    served, _ = serve(trace, POLICIES[0], num_blocks=40)
    options = ("scheduler.token_budget=64", "kv_cache.num_blocks=40", "model.max_model_len=512")
    recording = recorded(trace, served, *options)
    recording.write(tmp_path)
    lines = gzip.decompress((tmp_path / ITERATIONS).read_bytes()).decode().splitlines()
    cells = lines[3].split(",")
    cells[8] = str(int(cells[8]) + 1)  # context tokens of the decodes
    lines[3] = ",".join(cells)
    (tmp_path / ITERATIONS).write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(ReplayError, match=r"iteration 2 from .* recorded .*, the simulator decides"):
        replay(Recording.read(tmp_path))
    with pytest.raises(SystemExit) as stop:
        main(["validate", str(tmp_path)])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: iteration 2 from")


# --- the command -----------------------------------------------------------------------------------------


def test_a_recording_on_the_cpu_is_validated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "few"
    main(["record", "--on", "cpu", "--output", str(folder), *FEW, "arrival.qps=100", "kv_cache.num_blocks=60"])
    assert "6 of 6 requests completed" in capsys.readouterr().out
    recording = Recording.read(folder)
    assert recording.header.engine_generation.startswith(f"torch {torch.__version__}")
    for iteration in recording.served.iterations:
        assert 0 < iteration.device_s < iteration.end_s - iteration.start_s
    main(["validate", str(folder), "--output", str(tmp_path / "validation")])
    printed = capsys.readouterr().out
    assert "few" in printed
    assert "ttft_s" in printed
    assert {path.name for path in (tmp_path / "validation").iterdir()} == {"few.png", "validation.json"}


def test_iterations_of_a_slow_second_are_disturbed() -> None:
    start_s = np.arange(100) / 10
    ratio = np.full(100, 0.8)  # all predictions are too long: nothing is disturbed
    with_chunk = np.zeros(100, dtype=bool)
    assert not disturbed_iterations(start_s, ratio, with_chunk).any()
    with_chunk[80:] = True
    ratio[80:] = 1.2  # predictions of batches with a chunk are too short
    assert not disturbed_iterations(start_s, ratio, with_chunk).any()
    ratio[30:40] = 1.0  # one second, a quarter longer than the others
    ratio[[5, 17]] = 3.0  # single iterations
    assert np.flatnonzero(disturbed_iterations(start_s, ratio, with_chunk)).tolist() == list(range(30, 40))


def test_configurations_that_cannot_be_recorded_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [
        (["cluster.replicas=2"], "cluster: only one replica can be recorded"),
        (["parallel.tp=2"], "parallel: only one GPU can be recorded"),
        (["faults.schedule=[{kind: failure, at_s: 1, for_s: 1}]"], "faults: a recording cannot have faults"),
        (["engine.decode_graph_sizes=[1,2]"], "engine.decode_graph_sizes: CUDA graphs need a CUDA GPU"),
        (["engine.decode_graph_sizes=[2,1]"], "decode_graph_sizes must increase, got [2, 1]"),
        (["model=falcon_180b"], "falcon_180b cannot be recorded"),
        (["arrival=closed_loop", "arrival.users=2"], "a trace whose requests wait for others cannot be recorded"),
    ]
    for overrides, message in cases:
        output = tmp_path / "out"
        with pytest.raises(SystemExit) as stop:
            main(["record", "--on", "cpu", "--output", str(output), *FEW, "kv_cache.num_blocks=20", *overrides])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
        assert not output.exists()


def test_a_recording_is_not_overwritten_and_a_folder_without_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recording.json").write_text("{}")
    for arguments, message in (
        (["record", "--on", "cpu", "--output", str(tmp_path)], "already has a recording"),
        (["validate", str(tmp_path)], "has no valid recording: 'on'"),
        (["validate", str(tmp_path / "none")], "no recording.json in it or below"),
        (["campaign", "--model", "llama_small", "--repeats", "0", "--output", str(tmp_path)], "--repeats must be an"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_campaign_records_every_policy_and_load_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measurements = tmp_path / "measurements/cpu"
    shutil.copytree(REPOSITORY / "profiling/measurements/cpu", measurements)
    library = operators_on(CPU, torch, None).kernel_library
    header = replace(Header.read(measurements), engine_generation=library, num_sms=torch.get_num_threads())
    header.write(measurements)
    lengths = ["trace=fixed", "trace.prompt_tokens=20", "trace.output_tokens=6"]
    sizes = ["model.max_model_len=128", "kv_cache.num_blocks=200", *lengths]
    arguments = ["--model", "llama_small", "--max-tokens", "128", "--measure-s", "0", "--record-s", "0.1"]
    campaign = ["campaign", "--on", "cpu", *arguments, "--token-budget", "64", "--output", str(tmp_path), *sizes]
    main(campaign)
    folders = recording_folders(tmp_path)
    names = [f"{policy}_{load}" for policy in ("sarathi", "vllm") for load in ("busy", "light", "overload")]
    assert [folder.name for folder in folders] == names
    written = [(folder / ITERATIONS).stat().st_mtime_ns for folder in folders]
    rates = [next(text for text in Recording.read(folder).overrides if "qps" in text) for folder in folders[:3]]
    busy, light, overload = (float(rate.partition("=")[2]) for rate in rates)
    assert light == pytest.approx(busy * 0.3 / 0.8, rel=0.01)
    assert overload == pytest.approx(busy * 1.3 / 0.8, rel=0.01)
    validation = json.loads((tmp_path / "validation/validation.json").read_text())
    assert {row["recording"] for row in validation["iterations"]} == set(names)
    assert all((tmp_path / f"validation/{name}.png").exists() for name in names)
    main(
        [*campaign, "--repeats", "2", "--token-budget", "32"]
    )  # repeats use the configurations of the recordings in the folder
    assert [(folder / ITERATIONS).stat().st_mtime_ns for folder in folders] == written
    assert {folder.name for folder in recording_folders(tmp_path)} == {*names, *(f"{name}_2" for name in names)}
    repeats = json.loads((tmp_path / "validation/validation.json").read_text())["repeatability"]
    assert {tuple(row["recordings"]) for row in repeats} == {(name, f"{name}_2") for name in names}
    assert all(row["most_s"] >= row["least_s"] > 0 for row in repeats)
    assert "recorded more than once" in capsys.readouterr().out


@pytest.mark.parametrize("device", ["h100_sxm", "h200_sxm"])
def test_the_options_of_a_gpu_campaign_are_a_valid_configuration(device: str) -> None:
    common = [f"device={device}", "model=llama3_8b", "engine=torch_loop", "engine.hosts=null", "trace=sharegpt"]
    deployment = load_config(*common, "scheduler=vllm", "engine.decode_graph_sizes=[1,2,4,8]")["deployment"]
    assert deployment.engine.decode_graph_sizes == (1, 2, 4, 8)
    (spec,) = deployment.replica_specs()
    assert spec.num_blocks > 10_000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_decodes_from_cuda_graphs_emit_the_tokens_of_launched_ones() -> None:
    flashinfer = pytest.importorskip("flashinfer")
    model = replace(tiny_model(128), head_dim=64)  # the smallest that FlashInfer rotates
    results = []
    with torch.inference_mode():
        for sizes in ((), (1, 2, 4)):
            executor = Executor(torch, flashinfer, model, CUDA, 64, 16, sizes, lambda: 0.0)
            spec = ReplicaSpec(POLICIES[0], no_time, 64, 16, 0.0, 128)
            trace = trace_of([(0.0, 20, 8), (0.0, 30, 8), (0.0, 9, 8)])
            tokens: list[list[int]] = []

            def execute(work: Work, known: Sequence[Tokens], run: Any = executor.execute, to: Any = tokens) -> Any:
                emitted, times = run(work, known)
                to.append(emitted.tolist())
                return emitted, times

            ServingLoop(trace, spec, model.vocab_size, execute).serve()
            results.append(tokens)
    assert results[0] == results[1]
