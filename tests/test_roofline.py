"""The roofline: bounds, monotonicity and values computed by hand."""

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest

from simulator.config import load_config
from simulator.iteration_time import MatMul, Roofline
from simulator.iteration_time.roofline import RooflineKernels
from simulator.model import EngineOverhead, HostTime, Layout, Parallelism
from simulator.replica import Batch
from tests.helpers import A100

MISTRAL = load_config()["deployment"].model
NODE = load_config()["deployment"].node
LLAMA = load_config("model=llama2_70b", "kv_cache.num_blocks=1")["deployment"].model


def batch_of(prefills: list[tuple[int, int]], decodes: tuple[int, int] = (0, 0)) -> Batch:
    """Return a batch of (chunk, context) prefills and of (count, context of each) decodes."""
    return Batch.of(prefills, [decodes])


def seconds(batch: Batch, model: str = "mistral", tp: int = 1, host: HostTime | None = None) -> float:
    shape = MISTRAL if model == "mistral" else LLAMA
    engine = EngineOverhead({"default": host or HostTime()})
    return sum(Roofline().for_layout(Layout(shape, A100, Parallelism(tp=tp), NODE), engine)(batch))


def test_a_long_prefill_is_compute_bound() -> None:
    flops = 2 * 4096 * MISTRAL.num_parameters
    attained = flops / seconds(batch_of([(4096, 0)])) / 312e12
    assert 0.5 < attained < A100.attained.compute


def test_a_small_decode_batch_is_bound_by_reading_the_weights() -> None:
    weights_s = 2 * MISTRAL.num_parameters / (1935e9 * A100.attained.bandwidth)
    assert weights_s < seconds(batch_of([], (1, 100))) < 1.15 * weights_s


def test_decode_attention_reads_every_cached_key_and_value_once() -> None:
    near, far = seconds(batch_of([], (32, 1000))), seconds(batch_of([], (32, 2000)))
    kv_bytes = 32 * 1000 * 32 * 2 * 8 * 128 * 2
    assert far - near == pytest.approx(kv_bytes / (1935e9 * A100.attained.decode_attention), rel=1e-6)


def test_a_matmul_takes_the_larger_of_its_compute_and_memory_time() -> None:
    kernels = RooflineKernels(A100)
    square, tokens = MatMul("square", 4096, 4096), np.array([1.0, 4096.0])
    floor_s = A100.attained.kernel_us * 1e-6
    compute_s = 2 * 4096**3 / (312e12 * A100.attained.compute)
    memory_s = 2 * (4096 + 4096**2 + 4096) / (1935e9 * A100.attained.bandwidth)
    assert kernels.matmul_time(square, tokens) == pytest.approx([floor_s + memory_s, floor_s + compute_s])


def test_more_work_takes_longer() -> None:
    tokens = [seconds(batch_of([(count, 0)])) for count in (1, 16, 64, 256, 512, 2048, 8192)]
    contexts = [seconds(batch_of([(512, context)])) for context in (0, 512, 4096, 16000)]
    for shorter, longer in [*pairwise(tokens), *pairwise(contexts)]:
        assert shorter < longer


def test_tensor_parallelism_divides_the_work_and_pays_for_communication() -> None:
    batch = batch_of([(512, 0)], (16, 1000))
    tp1, tp2, tp4 = (seconds(batch, "llama", tp) for tp in (1, 2, 4))
    assert tp1 / 2 < tp2 < tp1
    assert tp4 > tp1 / 4


def test_pipeline_stages_share_the_layers() -> None:
    whole = Roofline().for_layout(Layout(MISTRAL, A100, Parallelism()), EngineOverhead())
    halves = Roofline().for_layout(Layout(MISTRAL, A100, Parallelism(pp=2), NODE), EngineOverhead())
    batch = batch_of([(512, 0)])
    first, message, second = halves(batch)
    assert first + second == pytest.approx(sum(whole(batch)))
    assert first == pytest.approx(second, rel=0.1)
    assert 0 < message < 0.01 * first


def test_the_host_takes_time_per_iteration_and_per_sequence() -> None:
    batch = batch_of([(64, 0)], (9, 100))
    host = HostTime(base_s=0.001, per_seq_s=0.0002, multi_gpu_base_s=0.5, multi_gpu_per_seq_s=0.003)
    assert seconds(batch, host=host) - seconds(batch) == pytest.approx(0.001 + 10 * 0.0002)
    assert seconds(batch, tp=2, host=host) - seconds(batch, tp=2) == pytest.approx(0.5 + 10 * 0.003)


@pytest.mark.parametrize("name", [field.name for field in fields(HostTime)])
def test_negative_host_times_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a number from 0 to"):
        HostTime(**{name: -1.0})


def test_a_stage_takes_at_least_as_long_as_launching_its_kernels() -> None:
    host = HostTime(base_s=0.001, multi_gpu_base_s=0.001, launch_per_layer_s=0.002)
    alone, many = batch_of([], (1, 100)), batch_of([(8192, 0)])
    assert seconds(alone, host=host) == pytest.approx(0.001 + 32 * 0.002)
    assert seconds(many, host=host) == pytest.approx(0.001 + seconds(many))
    times = Roofline().for_layout(Layout(MISTRAL, A100, Parallelism(pp=2), NODE), EngineOverhead({"default": host}))
    assert times(alone)[::2] == pytest.approx([0.001 + 16 * 0.002] * 2)
    assert times.operators is not None
    for stage in (0, 1):
        parts = {row.name: row.seconds_per_layer * row.layers for row in times.operators(alone, stage)}
        assert parts["wait_for_launches"] > 0
        assert sum(parts.values()) == pytest.approx(sum(times(alone)[2 * stage : 2 * stage + 2]), rel=0.02)
        assert "wait_for_launches" not in {row.name for row in times.operators(many, stage)}


def test_ungrouped_decodes_read_keys_and_values_for_each_query_head() -> None:
    layout = Layout(MISTRAL, A100, Parallelism())
    grouped, ungrouped = (Roofline().for_layout(layout, EngineOverhead(grouped_decode=flag)) for flag in (True, False))
    near, far, prompt = batch_of([], (32, 1000)), batch_of([], (32, 2000)), batch_of([(512, 0)])
    per_query_head = 32 * 1000 * 32 * 2 * 32 * 128 * 2
    assert sum(ungrouped(far)) - sum(ungrouped(near)) == pytest.approx(
        per_query_head / (A100.attained.l2_gb_per_s * 1e9)
    )
    assert sum(ungrouped(near)) > sum(grouped(near))
    assert ungrouped(prompt) == grouped(prompt)
