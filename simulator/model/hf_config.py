"""Read a model architecture from its Hugging Face config.json."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from simulator.model.architecture import LARGEST, Model
from simulator.model.hf_families import FAMILIES
from simulator.model.hf_quantisation import weight_format
from traces.shared.json_file import read_json, reading
from traces.shared.value_checks import choice, instance, integer, number, text

_FALCON = {"falcon", "RefinedWeb", "RefinedWebModel"}
# Key names in the first Falcon files.
_LEGACY_KEYS = {"num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "num_kv_heads": "n_head_kv"}
# Models whose window is off unless the file says otherwise.
_WINDOW_OFF = {"qwen2", "qwen3"}
# Scalings of rotary embeddings that do not lengthen `max_position_embeddings`: it already counts them.
_COUNTED = {"default", "llama3", "longrope", "su", "mrope"}
_MODELOPT_FILE = "hf_quant_config.json"


def read_hf_config(path: str, max_model_len: int | None = None, dtype: str | None = None) -> Model:
    """Read a decoder-only transformer from a config.json.

    Args:
        path: A Hugging Face config.json, or its folder, after which the model is named.
        max_model_len: Longest sequence that the engine admits, tokens; None: the model's positions.
        dtype: Format of the weights; None: as the file says, or hf_quant_config.json beside it.

    Raises:
        ValueError: The file cannot be read, lacks a key, or has an unsupported architecture or quantisation; one
            line that names it.
    """
    text("path", path, "the path of a config.json or of its folder")
    file = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    with reading(file, "the config.json of a supported model", "path: "):
        config = read_json(file)
        instance("it", config, dict, "a JSON object")
        choice(
            f"model_type (of architectures {config.get('architectures')})", config.get("model_type"), sorted(FAMILIES)
        )
        model = _model(config, file.resolve().parent.name)
    beside = file.parent / _MODELOPT_FILE
    with reading(beside if beside.exists() else file, "the config.json of a supported model", "path: "):
        own_dtype, weight_only = weight_format(config, read_json(beside) if beside.exists() else None)
    # Applied after the blocks, so that an invalid option is not reported as an error in the file.
    model = replace(model, max_model_len=model.max_model_len if max_model_len is None else max_model_len)
    _require_within_window(_window(config), model)
    return replace(model, dtype=own_dtype, weight_only=weight_only) if dtype is None else replace(model, dtype=dtype)


def _model(config: Mapping[str, Any], name: str) -> Model:
    """Return the model with half-precision weights."""
    model_type = config["model_type"]
    family = FAMILIES[model_type]
    hidden_size, num_heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
    has_experts = model_type == "mixtral"
    ffn_key = "ffn_hidden_size" if model_type in _FALCON else "intermediate_size"
    default_ffn = model_type in _FALCON and config.get(ffn_key) is None
    return Model(
        name=name,
        num_layers=_count(config, "num_hidden_layers"),
        hidden_size=hidden_size,
        num_q_heads=num_heads,
        num_kv_heads=_kv_heads(config, num_heads),
        head_dim=_head_dim(config, hidden_size, num_heads),
        ffn_size=4 * hidden_size if default_ffn else _count(config, ffn_key),
        gated_mlp=family.gated,
        vocab_size=_count(config, "vocab_size"),
        parallel_attention=_has_parallel_attention(config),
        qk_norm=family.qk_norm or bool(config.get("use_qk_norm") or config.get("qk_layernorm")),
        tied_embedding=config.get("tie_word_embeddings", family.tied),
        num_experts=_count(config, "num_local_experts") if has_experts else 1,
        experts_per_token=_count(config, "num_experts_per_tok") if has_experts else 1,
        max_model_len=_positions(config),
    )


def _count(config: Mapping[str, Any], name: str) -> int:
    """Return a positive integer of the file.

    Raises:
        KeyError: The key is missing.
        ValueError: The value is not an integer from 1 to LARGEST.
    """
    legacy = _LEGACY_KEYS.get(name, name)
    key = legacy if legacy in config and name not in config else name
    value: int = config[key]
    integer(key, value, 1, LARGEST)
    return value


def _head_dim(config: Mapping[str, Any], hidden_size: int, num_heads: int) -> int:
    if config.get("head_dim") is not None:
        return _count(config, "head_dim")
    own = FAMILIES[config["model_type"]].head_dim
    return hidden_size // num_heads if own is None else own


def _kv_heads(config: Mapping[str, Any], num_heads: int) -> int:
    if config["model_type"] not in _FALCON:
        absent, family = config.get("num_key_value_heads") is None, FAMILIES[config["model_type"]]
        return num_heads if absent and family.multi_head else _count(config, "num_key_value_heads")
    # Re-saved files of Falcon-7B state 71 key-value heads beside multi_query, but the model has one.
    if config.get("new_decoder_architecture") or config["model_type"] == "RefinedWeb":
        return _count(config, "num_kv_heads")
    return 1 if config.get("multi_query", True) else num_heads


def _has_parallel_attention(config: Mapping[str, Any]) -> bool:
    model_type = config["model_type"]
    if model_type in _FALCON:
        return bool(config.get("parallel_attn", True) or config.get("new_decoder_architecture"))
    parallel = FAMILIES[model_type].parallel or (model_type == "gpt_neox" and config.get("use_parallel_residual", True))
    return bool(parallel or (model_type == "stablelm" and config.get("use_parallel_residual")))


def _positions(config: Mapping[str, Any]) -> int:
    """Return the longest sequence.

    Engines derive it from the scaling of the rotary embeddings.
    """
    if config["model_type"] in _FALCON and "max_position_embeddings" not in config:
        return 2048  # the first files do not state the positions of training
    positions = _count(config, "max_position_embeddings")
    scaling = config.get("rope_scaling") or config.get("rope_parameters")
    if not scaling:
        return positions
    instance("rope_scaling", scaling, dict, "an object")
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind in _COUNTED:
        return positions
    factor = scaling.get("factor", 1.0)
    number("rope_scaling.factor", factor, 1, LARGEST)
    trained = _count(scaling, "original_max_position_embeddings") if kind == "yarn" else positions
    return int(trained * factor)


def _window(config: Mapping[str, Any]) -> int | None:
    """Return the sliding window of some or all layers, tokens.

    None: every layer attends to all tokens.
    """
    off = config["model_type"] in _WINDOW_OFF and not config.get("use_sliding_window", False)
    window = config.get("sliding_window", FAMILIES[config["model_type"]].window)
    return None if off else window


def _require_within_window(window: int | None, model: Model) -> None:
    """Check that no sequence is longer than the sliding window.

    Raises:
        ValueError: A layer would not attend to all tokens, which is not simulated.
    """
    if window is not None and model.max_model_len > window:
        raise ValueError(
            f"max_model_len={model.max_model_len} exceeds the sliding window of {window} tokens in layers of "
            f"{model.name}, and windows are not simulated; at most {window} keeps all sequences within it"
        )
