"""Reads the architecture of a model from the config.json that it is published with."""

import json
from pathlib import Path
from typing import Any

from simulator.model import Model

# By model_type: keys of what other models call otherwise.
_GATED = {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "yi", "internlm2"}
_PLAIN = {"falcon", "gpt_neox", "phi"}


def read_hf_config(path: Path) -> Model:
    """Read a dense decoder-only transformer.

    Args:
        path: A Hugging Face config.json; the model is named after the folder that it is in.

    Raises:
        ValueError: It cannot be read, lacks a number, or describes another kind of model; one line that
            names the file.
    """
    try:
        config = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in _GATED | _PLAIN:
        raise ValueError(f"{path}: model_type must be one of {', '.join(sorted(_GATED | _PLAIN))}, got {kind!r}")
    try:
        return _model(config, path.resolve().parent.name)
    except KeyError as error:
        raise ValueError(f"{path} has no {error.args[0]}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _model(config: dict[str, Any], name: str) -> Model:
    kind = config["model_type"]
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    return Model(
        name=name,
        num_layers=config["num_hidden_layers"],
        hidden_size=hidden,
        num_q_heads=heads,
        num_kv_heads=_kv_heads(config, heads),
        head_dim=config.get("head_dim") or hidden // heads,
        ffn_size=config.get("ffn_hidden_size") or config.get("intermediate_size") or 4 * hidden,
        gated_mlp=kind in _GATED,
        vocab_size=config["vocab_size"],
        parallel_attention=_is_parallel(config),
        tied_embedding=bool(config.get("tie_word_embeddings", kind == "falcon")),
        max_model_len=config.get("max_position_embeddings", 2048),
    )


def _kv_heads(config: dict[str, Any], heads: int) -> int:
    if config["model_type"] == "falcon":
        if config.get("new_decoder_architecture"):
            return int(config["num_kv_heads"])
        return 1 if config.get("multi_query", True) else heads
    found: int = config.get("num_key_value_heads") or heads
    return found


def _is_parallel(config: dict[str, Any]) -> bool:
    kind = config["model_type"]
    if kind == "falcon":
        return bool(config.get("parallel_attn", True) or config.get("new_decoder_architecture"))
    return kind == "phi" or bool(config.get("use_parallel_residual", kind == "gpt_neox"))
