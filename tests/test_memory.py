"""Weight bytes, KV bytes and KV blocks against values computed by hand."""

from dataclasses import replace

import pytest

from simulator.config import ConfigError, load_config
from simulator.model import KVMemory, Layout, Model, Parallelism
from simulator.model.kv_memory import GIB
from tests.helpers import A100, tiny_model
from tests.test_python_api import ShortestPromptFirst


def model(name: str) -> Model:
    loaded = load_config(f"model={name}", "kv_cache.num_blocks=1")["deployment"].model
    assert isinstance(loaded, Model)
    return loaded


def layout_of(shape: Model, tp: int = 1, pp: int = 1, kv_dtype: str = "fp16") -> Layout:
    return Layout(shape, A100, Parallelism(tp=tp, pp=pp), kv_dtype=kv_dtype)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        # Published parameter counts (safetensors totals on Hugging Face).
        ("mistral_7b", 7.242),
        ("yi_34b", 34.389),
        ("llama2_7b", 6.738),
        ("llama2_70b", 68.977),
        ("llama3_8b", 8.030),
        ("llama3_70b", 70.554),
        ("codellama_34b", 33.744),
        ("falcon_180b", 179.522),
        ("qwen3_32b", 32.762),
    ],
)
def test_parameter_counts_match_the_published_ones(name: str, billions: float) -> None:
    assert model(name).num_parameters / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize(
    ("name", "tp", "num_bytes"),
    [
        ("mistral_7b", 1, 2 * 8 * 128 * 2),
        ("llama2_70b", 4, 2 * 2 * 128 * 2),
        ("llama2_7b", 2, 2 * 16 * 128 * 2),
        ("falcon_180b", 8, 2 * 1 * 64 * 2),
        # 8 key-value heads on 232 GPUs: each GPU holds a copy of one head.
        ("falcon_180b", 232, 2 * 1 * 64 * 2),
    ],
)
def test_kv_bytes_are_per_token_and_layer(name: str, tp: int, num_bytes: int) -> None:
    assert layout_of(model(name), tp).kv_bytes_per_token == num_bytes


def test_kv_blocks_take_the_memory_that_weights_and_activations_leave() -> None:
    mistral = model("mistral_7b")
    usable = 80 * GIB * 0.85
    weights = 2 * (32 * (4096 * 128 * 2 * 40 + 3 * 4096 * 14336) + 2 * 32000 * 4096)
    activations = 2 * 16384 * (3 * 4096 + 3 * 14336)
    block = 16 * 32 * 4096
    layout = layout_of(mistral)
    assert layout.weight_bytes(0) == weights
    assert layout.activation_bytes(16384) == activations
    assert KVMemory().blocks_for(layout, 16384) == (usable - weights - activations) // block


def test_the_stage_with_the_least_room_limits_the_kv_blocks() -> None:
    yi = model("yi_34b")
    halves = layout_of(yi, pp=2)
    assert halves.weight_bytes(0) == halves.weight_bytes(1)
    uneven = Layout(yi, A100, Parallelism(pp=2, stage_layers=[40, 20]))
    block = 16 * 40 * 2 * 8 * 128 * 2
    room = 80 * GIB * 0.85 - uneven.weight_bytes(0) - uneven.activation_bytes(512)
    assert uneven.weight_bytes(0) > halves.weight_bytes(0) > uneven.weight_bytes(1)
    assert KVMemory().blocks_for(uneven, 512) == room // block < KVMemory().blocks_for(halves, 512)


@pytest.mark.parametrize(
    ("overrides", "num_tokens"),
    [
        (["scheduler=sarathi"], 512),
        (["scheduler=sarathi", "scheduler.token_budget=20000"], 16384),
        (["scheduler.dynamic_chunks.stages=3", "scheduler.dynamic_chunks.high=640"], 640),
        (["scheduler=vllm"], 16384),
        (["scheduler=vllm", "scheduler.max_num_batched_tokens=4096"], 4096),
        (["scheduler=orca", "scheduler.max_num_seqs=8"], 8 * 16384),
        (["scheduler=faster_transformer", "scheduler.max_num_seqs=4"], 4 * 16384),
    ],
    ids=str,
)
def test_activations_are_sized_for_the_largest_batch_of_the_policy(overrides: list[str], num_tokens: int) -> None:
    deployment = load_config(*overrides)["deployment"]
    (spec,) = deployment.replica_specs()
    assert spec.num_blocks == KVMemory().blocks_for(deployment.layout, num_tokens)


def test_activations_are_sized_for_the_longest_sequence_if_the_policy_states_no_limit() -> None:
    deployment = replace(load_config()["deployment"], scheduler=ShortestPromptFirst())
    (spec,) = deployment.replica_specs()
    assert spec.num_blocks == KVMemory().blocks_for(deployment.layout, 16384)


def test_a_given_number_of_kv_blocks_is_used_unchanged() -> None:
    assert KVMemory(num_blocks=7).blocks_for(layout_of(model("falcon_180b")), 512) == 7


def test_layer_weights_are_quantised_and_embeddings_are_not() -> None:
    layers, embeddings = 32 * (4096 * 128 * 2 * 40 + 3 * 4096 * 14336), 2 * 32000 * 4096
    for dtype, num_bytes in (("fp16", 2), ("bf16", 2), ("fp8", 1), ("int8", 1), ("int4", 0.5)):
        quantised = replace(model("mistral_7b"), dtype=dtype)
        assert layout_of(quantised).weight_bytes(0) == layers * num_bytes + embeddings * 2


def test_an_eight_bit_kv_cache_holds_twice_the_tokens() -> None:
    mistral = model("mistral_7b")
    for dtype in ("fp8", "int8"):
        assert layout_of(mistral, kv_dtype=dtype).kv_bytes_per_token == 2 * 8 * 128
        blocks = KVMemory(dtype=dtype).blocks_for(layout_of(mistral, kv_dtype=dtype), 512)
        assert blocks // 2 == KVMemory().blocks_for(layout_of(mistral), 512)


def test_a_mixture_of_experts_stores_every_expert() -> None:
    mixtral = replace(model("mistral_7b"), num_experts=8, experts_per_token=2)
    layer = 4096 * 128 * 2 * 40 + 8 * 3 * 4096 * 14336 + 8 * 4096
    assert mixtral.num_parameters == 32 * layer + 2 * 32000 * 4096
    # The published count for Mixtral-8x7B-v0.1 is 46,702,792,704, norms included.
    assert mixtral.num_parameters / 46_702_792_704 == pytest.approx(1, abs=1e-5)
    assert layout_of(mixtral, tp=2).weight_bytes(0) == mixtral.num_parameters


def test_a_model_that_does_not_fit_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(ConfigError) as error:
        load_config("model=llama2_70b", "device=a40")
    message = str(error.value)
    assert "llama2_70b with tp=1 pp=1 does not fit a40" in message
    assert "45 GiB x 0.85 = 38.2 GiB" in message
    assert "weights take 128.5" in message


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Parallelism(tp=3), "must divide the 4 query heads"),
        (Parallelism(pp=9), "must be at most the 8 layers of tiny"),
        (Parallelism(pp=2, stage_layers=[4, 5]), r"stage_layers=\[4, 5\] must add up to the 8 layers of tiny, got 9"),
    ],
)
def test_impossible_layouts_are_refused(layout: Parallelism, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Layout(tiny_model(100), A100, layout)


def test_layers_are_spread_evenly_and_the_first_stages_take_the_remainder() -> None:
    assert layout_of(tiny_model(100), pp=3).stage_layers == [3, 3, 2]
