"""Read a model architecture from its Hugging Face config.json."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from simulator.model.architecture import LARGEST, Model
from traces.shared.json_file import read_json, reading
from traces.shared.value_checks import choice, instance, integer, text

# By model_type: gated MLPs, plain MLPs, and embeddings that are tied unless the file says otherwise.
_GATED = {"llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma", "gemma2", "Yi", "internlm2"}
_FALCON = {"falcon", "RefinedWeb", "RefinedWebModel"}
_PLAIN = {*_FALCON, "gpt_neox", "phi"}
_TIED = {*_FALCON, "gemma", "gemma2"}
# Models with as many key-value heads as query heads unless the file says otherwise.
_MULTI_HEAD = {"llama", "Yi", "internlm2", "gpt_neox", "phi"}
# Key names in the first Falcon files.
_LEGACY_KEYS = {"num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "num_kv_heads": "n_head_kv"}
# Engines run single-precision checkpoints in half precision.
_DTYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp16"}


def read_hf_config(path: str, max_model_len: int | None = None, dtype: str | None = None) -> Model:
    """Read a decoder-only transformer from a config.json.

    Args:
        path: A Hugging Face config.json; the model is named after its folder.
        max_model_len: Longest sequence that the engine admits, tokens; None: the model's positions.
        dtype: Format of the weights; None: as the file says.

    Raises:
        ValueError: The file cannot be read, lacks a key, or has an unsupported architecture or quantisation; one
            line that names it.
    """
    text("path", path, "the path of a config.json")
    with reading(path, "the config.json of a supported model", "path: "):
        config = read_json(Path(path))
        instance("it", config, dict, "a JSON object")
        model_type, supported = config.get("model_type"), sorted(_GATED | _PLAIN)
        choice(f"model_type (of architectures {config.get('architectures')})", model_type, supported)
        model = _model(config, Path(path).resolve().parent.name)
    # Applied after the block, so that an invalid option is not reported as an error in the file.
    model = model if max_model_len is None else replace(model, max_model_len=max_model_len)
    return model if dtype is None else replace(model, dtype=dtype, weight_only=False)


def _model(config: dict[str, Any], name: str) -> Model:
    model_type = config["model_type"]
    hidden_size, num_heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
    has_experts = model_type == "mixtral"
    ffn_key = "ffn_hidden_size" if model_type in _FALCON else "intermediate_size"
    default_ffn = model_type in _FALCON and config.get(ffn_key) is None
    dtype, weight_only = _precision(config)
    # The first Falcon files do not state the 2048 positions of training.
    has_positions = model_type not in _FALCON or "max_position_embeddings" in config
    return Model(
        name=name,
        num_layers=_count(config, "num_hidden_layers"),
        hidden_size=hidden_size,
        num_q_heads=num_heads,
        num_kv_heads=_kv_heads(config, num_heads),
        head_dim=hidden_size // num_heads if config.get("head_dim") is None else _count(config, "head_dim"),
        ffn_size=4 * hidden_size if default_ffn else _count(config, ffn_key),
        gated_mlp=model_type in _GATED,
        vocab_size=_count(config, "vocab_size"),
        parallel_attention=_has_parallel_attention(config),
        tied_embedding=config.get("tie_word_embeddings", model_type in _TIED),
        num_experts=_count(config, "num_local_experts") if has_experts else 1,
        experts_per_token=_count(config, "num_experts_per_tok") if has_experts else 1,
        dtype=dtype,
        weight_only=weight_only,
        max_model_len=_count(config, "max_position_embeddings") if has_positions else 2048,
    )


def _count(config: dict[str, Any], name: str) -> int:
    """Return a positive integer of the file.

    Raises:
        KeyError: The key is missing.
        ValueError: The value is not an integer from 1 to LARGEST.
    """
    legacy = _LEGACY_KEYS.get(name)
    key = legacy if legacy in config and name not in config else name
    value: int = config[key]
    integer(key, value, 1, LARGEST)
    return value


def _kv_heads(config: dict[str, Any], num_heads: int) -> int:
    if config["model_type"] not in _FALCON:
        absent = config.get("num_key_value_heads") is None
        return num_heads if absent and config["model_type"] in _MULTI_HEAD else _count(config, "num_key_value_heads")
    # Re-saved files of Falcon-7B state 71 key-value heads beside multi_query, but the model has one.
    if config.get("new_decoder_architecture") or config["model_type"] == "RefinedWeb":
        return _count(config, "num_kv_heads")
    return 1 if config.get("multi_query", True) else num_heads


def _has_parallel_attention(config: dict[str, Any]) -> bool:
    model_type = config["model_type"]
    if model_type in _FALCON:
        return bool(config.get("parallel_attn", True) or config.get("new_decoder_architecture"))
    return model_type == "phi" or (model_type == "gpt_neox" and bool(config.get("use_parallel_residual", True)))


def _precision(config: dict[str, Any]) -> tuple[str, bool]:
    """Return `dtype` and `weight_only` of the `Model`.

    Raises:
        ValueError: The format is not supported.
    """
    quantisation = config.get("quantization_config") or config.get("compression_config")
    if quantisation is None:
        dtype = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
        choice("torch_dtype", dtype, _DTYPES)
        return _DTYPES[dtype], False
    instance("quantization_config", quantisation, dict, "an object")
    bits, kind, weight_only = _weight_format(quantisation)
    if quantisation.get("weight_block_size") and (bits, kind) == (8, "float"):
        return "fp8_block", weight_only
    names = {(4, "int"): "int4", (8, "int"): "int8", (8, "float"): "fp8"}
    if (bits, kind) not in names:
        method = quantisation.get("quant_method")
        raise ValueError(
            f"quantization_config of {method!r} with {bits} bits of {kind} is not supported; supported are awq and "
            "gptq of 4 or 8 bits, fp8, compressed-tensors of 4 or 8 bits, bitsandbytes"
        )
    return names[bits, kind], weight_only


def _weight_format(quantisation: dict[str, Any]) -> tuple[Any, str, bool]:
    """Return the format of quantised weights.

    Returns:
        Bits of a weight, "int" or "float", and whether only weights are quantised.
    """
    method = quantisation.get("quant_method")
    if method == "fp8":
        return 8, "float", False
    if method in ("awq", "gptq"):
        return quantisation["bits"], "int", True
    if quantisation.get("load_in_4bit") or quantisation.get("load_in_8bit"):
        return (4 if quantisation.get("load_in_4bit") else 8), "int", True
    groups = list(quantisation["config_groups"].values()) if "config_groups" in quantisation else []
    formats = {
        (group["weights"]["num_bits"], group["weights"]["type"], group.get("input_activations") is None)
        for group in groups
    }
    return formats.pop() if len(formats) == 1 else (None, "an unknown kind", True)
