"""Models read from the config.json that they are published with."""

import json
from pathlib import Path
from typing import Any

import pytest

from simulator import simulate
from simulator.config import ConfigError, component, load_config
from simulator.model import read_hf_config

# Relevant keys of files on huggingface.co, and published numbers of parameters.
FILES: dict[str, tuple[dict[str, Any], float]] = {
    "Mistral-7B-Instruct-v0.2": (
        {"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
        | {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "torch_dtype": "bfloat16"},
        7_241_732_096,
    ),
    "Meta-Llama-3-8B": (
        {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
        | {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False}
        | {"max_position_embeddings": 8192, "torch_dtype": "bfloat16"},
        8_030_261_248,
    ),
    "Yi-34B": (
        {"model_type": "Yi", "hidden_size": 7168, "intermediate_size": 20480, "num_hidden_layers": 60}
        | {"num_attention_heads": 56, "num_key_value_heads": 8, "vocab_size": 64000},
        34_388_917_248,
    ),
    "Qwen2.5-7B": (
        {"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28}
        | {"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False},
        7_615_616_512,
    ),
    "Qwen3-8B": (
        {"model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36}
        | {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936}
        | {"tie_word_embeddings": False},
        8_190_735_360,
    ),
    "Mixtral-8x7B-v0.1": (
        {"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
        | {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000}
        | {"num_local_experts": 8, "num_experts_per_tok": 2, "max_position_embeddings": 32768},
        46_702_792_704,
    ),
    # The embeddings are tied; the file on huggingface.co holds them twice: 179,522,565,120.
    "falcon-180B": (
        {"model_type": "falcon", "hidden_size": 14848, "num_hidden_layers": 80, "num_attention_heads": 232}
        | {"num_kv_heads": 8, "new_decoder_architecture": True, "vocab_size": 65024},
        178_557_088_768,
    ),
    # By hand: 60 layers of two matrices 8192 x 32768 and of attention with 128 query and 8 key-value heads of 64.
    "falcon-40b": (
        {"model_type": "RefinedWeb", "hidden_size": 8192, "n_layer": 60, "n_head": 128, "n_head_kv": 8}
        | {"vocab_size": 65024},
        60 * (2 * 8192 * 32768 + 8192 * 64 * 2 * 136) + 65024 * 8192,
    ),
    # The file was saved again with 71 key-value heads; multi_query reduces them to one.
    "falcon-7b": (
        {"model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71}
        | {"num_kv_heads": 71, "multi_query": True, "new_decoder_architecture": False, "vocab_size": 65024},
        6_921_720_704,
    ),
    "gemma-2-9b": (
        {"model_type": "gemma2", "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42}
        | {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "vocab_size": 256000},
        9_241_705_984,
    ),
}


def _file(model_type: str, hidden: int, ffn: int, layers: int, heads: int, vocab: int, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers}
    return {"model_type": model_type, **sizes, "num_attention_heads": heads, "vocab_size": vocab, **more}


# Relevant keys of files on huggingface.co, and billions of parameters that the model cards state. What a file leaves
# out is the default of its class.
ROUNDED: dict[str, tuple[dict[str, Any], float]] = {
    "phi-4": (_file("phi3", 5120, 17920, 40, 40, 100352, num_key_value_heads=10), 14.66),
    "granite-3.1-8b": (
        _file("granite", 4096, 12800, 40, 32, 49155, num_key_value_heads=8, tie_word_embeddings=True),
        8.17,
    ),
    "Qwen3-4B": (_file("qwen3", 2560, 9728, 36, 32, 151936, num_key_value_heads=8, tie_word_embeddings=True), 4.02),
    "starcoder2-7b": (_file("starcoder2", 4608, 18432, 32, 36, 49152, num_key_value_heads=4), 7.17),
    "glm-4-9b-chat-hf": (_file("glm", 4096, 13696, 40, 32, 151552, num_key_value_heads=2), 9.4),
    "Minitron-4B": (_file("nemotron", 3072, 9216, 32, 24, 256000, num_key_value_heads=8, head_dim=128), 4.19),
    "command-r-v01": (_file("cohere", 8192, 22528, 40, 64, 256000), 34.98),
    "OLMo-2-7B": (_file("olmo2", 4096, 11008, 32, 32, 100352), 7.3),
    "stablelm-2-12b": (_file("stablelm", 5120, 13824, 40, 32, 100352, num_key_value_heads=8), 12.14),
    "SmolLM3-3B": (_file("smollm3", 2048, 11008, 36, 16, 128256, num_key_value_heads=4), 3.08),
    "Seed-OSS-36B": (_file("seed_oss", 5120, 27648, 64, 80, 155136, num_key_value_heads=8), 36.15),
}
FILES |= {name: (keys, 1e9 * billions) for name, (keys, billions) in ROUNDED.items()}


def write(folder: Path, name: str, **changes: Any) -> str:
    path = folder / name / "config.json"
    path.parent.mkdir()
    content = {"max_position_embeddings": 4096, **FILES[name][0], **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "gone"}))
    return str(path)


@pytest.mark.parametrize("name", FILES)
def test_published_models_have_the_published_number_of_parameters(name: str, tmp_path: Path) -> None:
    model = read_hf_config(write(tmp_path, name))
    assert model.name == name
    assert model.num_parameters == pytest.approx(FILES[name][1], rel=0.002 if name in ROUNDED else 0.001)


def test_a_file_gives_the_same_model_as_the_shipped_configuration(tmp_path: Path) -> None:
    path = write(tmp_path, "Meta-Llama-3-8B")
    (tmp_path / "Meta-Llama-3-8B").rename(tmp_path / "llama3_8b")
    path = path.replace("Meta-Llama-3-8B", "llama3_8b")
    assert read_hf_config(path, max_model_len=16384) == component("model", "llama3_8b")
    assert read_hf_config(path).max_model_len == 8192


@pytest.mark.parametrize(
    ("quantised", "dtype"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4, weight-only"),
        ({"quant_method": "gptq", "bits": 4}, "int4, weight-only"),
        ({"quant_method": "gptq", "bits": 8}, "int8, weight-only"),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8"),
        ({"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "mxfp4"}, "mxfp4, weight-only"),
        (
            {"format": "nvfp4-pack-quantized"}
            | {
                "config_groups": {
                    "group_0": {"weights": {"num_bits": 4, "type": "float"}, "input_activations": {"num_bits": 4}}
                }
            },
            "nvfp4",
        ),
        ({"load_in_8bit": True, "load_in_4bit": False}, "int8, weight-only"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4, weight-only"),
        (
            {"quant_method": "compressed-tensors"}
            | {"config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}}},
            "fp8, weight-only",
        ),
        (
            {"config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int"}, "input_activations": {}}}},
            "int8",
        ),
    ],
)
def test_the_number_format_of_quantised_checkpoints_is_read(
    quantised: dict[str, Any], dtype: str, tmp_path: Path
) -> None:
    path = write(tmp_path, "Qwen2.5-7B", quantization_config=quantised)
    model = read_hf_config(path)
    assert model.dtype + (", weight-only" if model.weight_only else "") == dtype
    assert read_hf_config(path, dtype="bf16").dtype == "bf16"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "mamba", "architectures": ["MambaForCausalLM"]},
            r"model_type \(of architectures \['MambaForCausalLM'\]\) must be one of RefinedWeb, .*; got 'mamba'",
        ),
        ({"hidden_size": "gone"}, "has no hidden_size"),
        ({"max_position_embeddings": "gone"}, "has no max_position_embeddings"),
        ({"hidden_size": "wide"}, "hidden_size must be an integer from 1 to 1000000000, got 'wide'"),
        ({"num_attention_heads": 0}, "num_attention_heads must be an integer from 1 to 1000000000, got 0"),
        ({"tie_word_embeddings": "false"}, "tied_embedding must be true or false, got 'false'"),
        ({"num_key_value_heads": "gone"}, "has no num_key_value_heads"),
        ({"intermediate_size": "gone"}, "has no intermediate_size"),
        ({"model_type": ["llama"]}, r"model_type .* must be one of .*; got \['llama'\]"),
        ({"model_type": "mixtral"}, "has no num_local_experts"),
        ({"quantization_config": {"config_groups": [1]}}, "config.json of a supported model: "),
        ({"torch_dtype": "float64"}, "torch_dtype must be one of float16, bfloat16, float32; got 'float64'"),
        (
            {"quantization_config": {"quant_method": "aqlm"}},
            "quantization_config of 'aqlm' with None bits of an unknown kind is not",
        ),
        ({"quantization_config": "awq"}, "quantization_config must be an object, got 'awq'"),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 3}},
            "'gptq' with 3 bits of int is not supported; supported are awq and gptq",
        ),
    ],
)
def test_unsupported_keys_and_values_are_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path, "Qwen2.5-7B", **changes)
    with pytest.raises(ConfigError, match=message) as error:
        load_config("model=hf", f"model.path={path}")
    assert str(error.value).startswith(f"model.path: {path}")
    assert "\n" not in str(error.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.path has no default"):
        load_config("model=hf")
    with pytest.raises(ConfigError, match=r"model\.path: cannot read /nowhere\.json: No such file"):
        load_config("model=hf", "model.path=/nowhere.json")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json is not the config\.json of a supported model: it is not JSON"):
        load_config("model=hf", f"model.path={tmp_path / 'config.json'}")
    with pytest.raises(
        ConfigError,
        match=r"model\.dtype must be one of fp16, bf16, fp8, fp8_block, int8, int4, nvfp4, mxfp4; got 'fp4'",
    ):
        load_config("model=hf", f"model.path={write(tmp_path, 'Qwen2.5-7B')}", "model.dtype=fp4")


def test_a_mixture_of_experts_uses_a_roofline_and_warns(tmp_path: Path) -> None:
    path = write(tmp_path, "Mixtral-8x7B-v0.1")
    overrides = ("model=hf", f"model.path={path}", "model.max_model_len=8192", "parallel.tp=2", "trace=fixed")
    result = simulate(**load_config(*overrides, "trace.num_requests=20"))
    assert result.summary["num_finished"] == 20
    assert any("experts were not measured" in warning for warning in result.summary["warnings"])


def test_a_folder_is_read_with_the_formats_of_model_optimizer_beside(tmp_path: Path) -> None:
    folder = Path(write(tmp_path, "Meta-Llama-3-8B")).parent
    assert read_hf_config(str(folder)).dtype == "bf16"
    beside = folder / "hf_quant_config.json"
    beside.write_text(json.dumps({"quantization": {"quant_algo": "FP8"}}))
    assert read_hf_config(str(folder)).dtype == "fp8"
    beside.write_text(json.dumps({"quantization": {"quant_algo": "W4A8_AWQ"}}))
    with pytest.raises(
        ValueError, match=r"hf_quant_config.json .*quant_algo must be one of FP8, NVFP4; got 'W4A8_AWQ'"
    ):
        read_hf_config(str(folder))


@pytest.mark.parametrize(
    ("scaling", "positions"),
    [
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        ({"rope_type": "linear", "factor": 2.0}, 65536),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 32768),
        (None, 32768),
    ],
)
def test_scaled_rotary_embeddings_lengthen_the_positions(
    scaling: dict[str, Any] | None, positions: int, tmp_path: Path
) -> None:
    path = write(tmp_path, "Qwen2.5-7B", max_position_embeddings=32768, rope_scaling=scaling)
    assert read_hf_config(path).max_model_len == positions


def test_queries_and_keys_of_qwen3_are_normalised(tmp_path: Path) -> None:
    model = read_hf_config(write(tmp_path, "Qwen3-4B"))
    assert (model.qk_norm, model.head_dim) == (True, 128)


@pytest.mark.parametrize(("name", "changes"), [
    ("Mistral-7B-Instruct-v0.2", {"sliding_window": 4096}),
    ("Mistral-7B-Instruct-v0.2", {}),  # the default of its class
    ("gemma-2-9b", {}),
    ("Qwen2.5-7B", {"use_sliding_window": True, "sliding_window": 4096}),
])  # fmt: skip
def test_sequences_longer_than_a_sliding_window_are_refused(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path, name, max_position_embeddings=32768, **changes)
    with pytest.raises(ValueError, match=rf"=32768 exceeds the sliding window of 4096 tokens in layers of {name}"):
        read_hf_config(path)
    assert read_hf_config(path, max_model_len=4096).max_model_len == 4096


def test_a_window_that_is_off_does_not_matter(tmp_path: Path) -> None:
    off = {"max_position_embeddings": 32768, "sliding_window": 4096, "use_sliding_window": False}
    assert read_hf_config(write(tmp_path, "Qwen2.5-7B", **off)).max_model_len == 32768
    unlimited = {"max_position_embeddings": 32768, "sliding_window": None}
    assert read_hf_config(write(tmp_path, "Mistral-7B-Instruct-v0.2", **unlimited)).max_model_len == 32768
