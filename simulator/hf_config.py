"""Reads the architecture of a model from the config.json that it is published with."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from simulator.model import Model

# By model_type: MLPs with a gate, without one, and embeddings that are tied unless the file says otherwise.
_GATED = {"llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma", "gemma2", "Yi", "internlm2"}
_FALCON = {"falcon", "RefinedWeb", "RefinedWebModel"}
_PLAIN = {*_FALCON, "gpt_neox", "phi"}
_TIED = {*_FALCON, "gemma", "gemma2"}
# Falcon's first files have names of their own.
_FORMER_NAMES = {"num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "num_kv_heads": "n_head_kv"}
# Engines run what was saved in single precision in half.
_DTYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp16"}


def read_hf_config(path: str, max_model_len: int | None = None, dtype: str | None = None) -> Model:
    """Read a decoder-only transformer.

    Args:
        path: A Hugging Face config.json; the model is named after the folder that it is in.
        max_model_len: Longest sequence that is admitted, tokens; None: as many positions as the model has.
        dtype: Format of the weights; None: as the file says.

    Raises:
        ValueError: It cannot be read, lacks a number, or describes a kind of model or of quantisation that is
            not known here; one line that names it.
    """
    if not isinstance(path, str):
        raise ValueError(f"path must name a config.json, got {path!r}")
    try:
        config = json.loads(Path(path).read_text())
    except OSError as error:
        raise ValueError(f"path: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"path: {path} is not JSON: {error}") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in _GATED | _PLAIN:
        known = ", ".join(sorted(_GATED | _PLAIN))
        architectures = config.get("architectures") if isinstance(config, dict) else None
        raise ValueError(f"path: {path} has model_type {kind!r} (architectures {architectures}); known are {known}")
    try:
        model = _model(config, Path(path).resolve().parent.name)
    except KeyError as error:
        raise ValueError(f"path: {path} has no {error.args[0]}") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"path: {path}: {error}") from error
    # Checked after the file, so that a mistake in these is not said to be one of the file.
    model = model if max_model_len is None else replace(model, max_model_len=max_model_len)
    return model if dtype is None else replace(model, dtype=dtype)


def _model(config: dict[str, Any], name: str) -> Model:
    kind = config["model_type"]
    hidden, heads = config["hidden_size"], _number(config, "num_attention_heads")
    return Model(
        name=name,
        num_layers=_number(config, "num_hidden_layers"),
        hidden_size=hidden,
        num_q_heads=heads,
        num_kv_heads=_kv_heads(config, heads),
        head_dim=config.get("head_dim") or hidden // heads,
        ffn_size=config.get("ffn_hidden_size") or config.get("intermediate_size") or 4 * hidden,
        gated_mlp=kind in _GATED,
        vocab_size=config["vocab_size"],
        parallel_attention=_is_parallel(config),
        tied_embedding=bool(config.get("tie_word_embeddings", kind in _TIED)),
        num_experts=config.get("num_local_experts") or 1,
        experts_per_token=config["num_experts_per_tok"] if config.get("num_local_experts") else 1,
        dtype=_dtype(config),
        max_model_len=_positions(config),
    )


def _number(config: dict[str, Any], name: str) -> Any:
    former = _FORMER_NAMES[name]
    return config[former] if name not in config and former in config else config[name]


def _positions(config: dict[str, Any]) -> Any:
    # Falcon's positions are relative and its files do not state the 2048 that it was trained with.
    return 2048 if config["model_type"] in _FALCON else config["max_position_embeddings"]


def _kv_heads(config: dict[str, Any], heads: int) -> Any:
    if config["model_type"] not in _FALCON:
        return config.get("num_key_value_heads") or heads
    # Files of Falcon-7B that were saved again state 71 key-value heads beside multi_query: it has one.
    if config.get("new_decoder_architecture") or config["model_type"] == "RefinedWeb":
        return _number(config, "num_kv_heads")
    return 1 if config.get("multi_query", True) else heads


def _is_parallel(config: dict[str, Any]) -> bool:
    kind = config["model_type"]
    if kind in _FALCON:
        return bool(config.get("parallel_attn", True) or config.get("new_decoder_architecture"))
    return kind == "phi" or (kind == "gpt_neox" and bool(config.get("use_parallel_residual", True)))


def _dtype(config: dict[str, Any]) -> str:
    """Return the format of the weights.

    Raises:
        ValueError: It is not known here.
    """
    quantised = config.get("quantization_config") or config.get("compression_config")
    if quantised is None:
        saved = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
        if saved not in _DTYPES:
            raise ValueError(f"torch_dtype must be one of {', '.join(_DTYPES)}, got {saved!r}")
        return _DTYPES[saved]
    method, found = quantised.get("quant_method"), _quantised_bits(quantised)
    names = {(4, "int"): "int4", (8, "int"): "int8", (8, "float"): "fp8"}
    if found not in names:
        raise ValueError(f"quantization_config of {method!r} is not known: {found[0]} bits of {found[1]}")
    return names[found]


def _quantised_bits(quantised: dict[str, Any]) -> tuple[Any, str]:
    """Bits of a weight, and whether they are an integer or a float."""
    method = quantised.get("quant_method")
    if method == "fp8":
        return 8, "float"
    if method in ("awq", "gptq"):
        return quantised["bits"], "int"
    if quantised.get("load_in_4bit") or quantised.get("load_in_8bit"):
        return (4 if quantised.get("load_in_4bit") else 8), "int"
    if "config_groups" in quantised:
        weights = [group["weights"] for group in quantised["config_groups"].values()]
        if len({(one["num_bits"], one["type"]) for one in weights}) == 1:
            return weights[0]["num_bits"], weights[0]["type"]
    return None, "an unknown kind"
