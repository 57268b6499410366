"""Formats of weights and of the KV cache: bytes, rates and warnings."""

import pytest

from simulator import simulate
from simulator.config import ConfigError, component, load_config
from simulator.iteration_time import Attention, Experts, MatMul
from simulator.iteration_time.roofline import RooflineKernels
from simulator.replica import Batch

DECODES = Batch.of([], [(16, 1000)])
PROMPT = Batch.of([(4096, 0)], [])


def seconds(batch: Batch, *overrides: str) -> float:
    return float(sum(load_config("engine=none", *overrides)["deployment"].stage_times()(batch)))


def warnings(*overrides: str) -> list[str]:
    texts: list[str] = simulate(**load_config("trace=fixed", "trace.num_requests=3", *overrides)).summary["warnings"]
    return texts


def test_a_matmul_reads_its_weights_in_their_format() -> None:
    for dtype, num_bytes in (("bf16", 2), ("fp8", 1), ("int8", 1), ("int4", 0.5)):
        assert MatMul("m", 100, 200, dtype=dtype).bytes_moved(3) == 100 * 200 * num_bytes + 2 * 300 * 3
        assert MatMul("m", 100, 200, dtype=dtype).flops(3) == 2 * 100 * 200 * 3


def test_only_experts_that_tokens_reach_are_read() -> None:
    experts = Experts("m", 100, 200, 8, 2, 8)
    weights, values = 3 * 20000, 2 * (2 * 100 + 4 * 200)
    # One token reaches two of eight experts; two random tokens reach 8 (1 - (6/8)^2) = 3.5; many reach all.
    assert experts.weight_bytes(1) == 2 * weights * 2
    assert experts.weight_bytes(2) == pytest.approx(3.5 * weights * 2)
    assert experts.bytes_moved(10_000) == pytest.approx(8 * weights * 2 + values * 2 * 10_000)
    assert experts.flops(5) == 2 * weights * 2 * 5
    half = Experts("m", 100, 200, 8, 2, 4)  # four of the eight on this GPU
    assert half.flops(5) == experts.flops(5) / 2


def test_devices_compute_in_the_formats_of_their_units() -> None:
    a100, h100 = component("device", "a100_80gb"), component("device", "h100_sxm")
    assert [a100.tflops(dtype) for dtype in ("bf16", "fp8", "int8", "int4")] == [312, 312, 624, 312]
    assert [h100.tflops(dtype) for dtype in ("fp16", "fp8", "int8", "int4")] == [989.4, 1979, 1979, 989.4]
    assert not a100.computes_in("fp8")
    assert h100.computes_in("fp8")
    square = MatMul("m", 8192, 8192, dtype="fp8"), MatMul("m", 8192, 8192)
    import numpy as np

    tokens = np.array([8192.0])
    fast, slow = (float(RooflineKernels(h100).matmul_time(matmul, tokens)[0]) for matmul in square)
    assert slow / fast == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("time", ["profile", "roofline"])
def test_smaller_weights_speed_up_decodes_and_prompts_only_on_devices_with_units(time: str) -> None:
    common = (f"iteration_time={time}", "device=a100_80gb")
    plain, eight, four = (seconds(DECODES, *common, f"model.dtype={dtype}") for dtype in ("bf16", "fp8", "int4"))
    assert plain > 1.4 * eight
    assert eight > 1.2 * four
    plain, no_units, units = (seconds(PROMPT, *common, f"model.dtype={dtype}") for dtype in ("bf16", "fp8", "int8"))
    assert no_units == pytest.approx(plain, rel=0.02)
    assert units < 0.7 * plain


def test_weight_only_quantisation_multiplies_in_half_precision() -> None:
    widened, eight = (seconds(PROMPT, "model.dtype=int8", f"model.weight_only={flag}") for flag in ("true", "false"))
    assert widened == pytest.approx(seconds(PROMPT), rel=0.02)
    assert eight < 0.7 * widened
    decodes, plain = seconds(DECODES, "model.dtype=int8", "model.weight_only=true"), seconds(DECODES)
    assert decodes < 0.75 * plain


@pytest.mark.parametrize("time", ["profile", "roofline"])
def test_a_smaller_kv_cache_is_read_faster(time: str) -> None:
    long = Batch.of([], [(64, 4000)])
    plain, eight = (seconds(long, f"iteration_time={time}", f"kv_cache.dtype={dtype}") for dtype in ("fp16", "fp8"))
    bytes_saved = 64 * 4000 * 32 * 2 * 8 * 128
    assert plain - eight == pytest.approx(bytes_saved / (1935e9 * 0.85), rel=0.35)
    assert Attention(32, 8, 128, kv_dtype="fp8").decode_bytes(10) == 10 * 2 * 8 * 128


def test_formats_that_were_not_measured_are_reported() -> None:
    assert warnings() == []
    (weights,) = warnings("model.dtype=fp8", "device=h100_sxm")
    assert weights.startswith("fp8 weights were not measured: their matmuls take the time of half precision times")
    (weights,) = warnings("model.dtype=int4")
    assert weights.startswith("int4 weights were not measured, multiplied in half precision on a100_80gb")
    (cache,) = warnings("kv_cache.dtype=int8")
    assert cache.startswith("a KV cache of int8 was not measured")


@pytest.mark.parametrize("override", ["model.dtype=fp7", "kv_cache.dtype=int4", "model.dtype=8", "kv_cache.dtype=null"])
def test_unknown_formats_are_refused(override: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(ConfigError, match=f"{key} must be one of fp16, bf16, fp8"):
        load_config(override)
