"""Weights, KV bytes and blocks by hand-computed values."""

import pytest

from simulator.config import ConfigError, load_config
from simulator.kv_cache import GIB, KVCache, activation_bytes, weight_bytes
from simulator.model import Model, stage_layers
from simulator.parallelism import Parallelism
from tests.helpers import A100, tiny_model


def model(name: str) -> Model:
    loaded = load_config(f"model={name}", "kv_cache.num_blocks=1")["deployment"].model
    assert isinstance(loaded, Model)
    return loaded


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
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, billions: float) -> None:
    assert model(name).num_parameters / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize(
    ("name", "tp", "num_bytes"),
    [
        ("mistral_7b", 1, 2 * 8 * 128 * 2),
        ("llama2_70b", 4, 2 * 2 * 128 * 2),
        ("llama2_7b", 2, 2 * 16 * 128 * 2),
        ("falcon_180b", 8, 2 * 1 * 64 * 2),
        # 8 key-value heads on 29 GPUs: each holds a copy of one.
        ("falcon_180b", 29, 2 * 1 * 64 * 2),
    ],
)
def test_kv_bytes_per_token_and_layer(name: str, tp: int, num_bytes: int) -> None:
    assert model(name).kv_bytes_per_token(tp) == num_bytes


def test_blocks_are_what_weights_and_activations_leave() -> None:
    mistral = model("mistral_7b")
    usable = 80 * GIB * 0.85
    weights = 2 * (32 * (4096 * 128 * 2 * 40 + 3 * 4096 * 14336) + 2 * 32000 * 4096)
    activations = 2 * 16384 * (3 * 4096 + 3 * 14336)
    block = 16 * 32 * 4096
    assert weight_bytes(mistral, Parallelism(), 0) == weights
    assert activation_bytes(mistral, 1) == activations
    assert KVCache().blocks_for(mistral, A100, Parallelism()) == (usable - weights - activations) // block


def test_the_stage_with_the_least_room_decides() -> None:
    yi = model("yi_34b")
    layout = Parallelism(tp=1, pp=2)
    ends = [weight_bytes(yi, layout, stage) for stage in (0, 1)]
    assert ends == [weight_bytes(yi, layout, 0)] * 2
    halves = KVCache().blocks_for(yi, A100, layout)
    assert halves > KVCache().blocks_for(yi, A100, Parallelism(tp=1, pp=1))


def test_given_blocks_are_taken_as_given() -> None:
    assert KVCache(num_blocks=7).blocks_for(model("falcon_180b"), A100, Parallelism()) == 7


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
        (Parallelism(pp=9), "has 8 layers, fewer than stages"),
    ],
)
def test_layouts_that_cannot_be_are_refused(layout: Parallelism, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KVCache().blocks_for(tiny_model(100), A100, layout)


def test_layers_are_spread_evenly_with_the_rest_in_front() -> None:
    assert stage_layers(tiny_model(100), Parallelism(pp=3)) == [3, 3, 2]
