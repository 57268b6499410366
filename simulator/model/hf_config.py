"""Reads the architecture of a model from the config.json that it is published with."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from simulator.model.architecture import LARGEST, Model
from traces.shared.json_file import read_json

# By model_type: MLPs with a gate, without one, and embeddings that are tied unless the file says otherwise.
_GATED = {"llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma", "gemma2", "Yi", "internlm2"}
_FALCON = {"falcon", "RefinedWeb", "RefinedWebModel"}
_PLAIN = {*_FALCON, "gpt_neox", "phi"}
_TIED = {*_FALCON, "gemma", "gemma2"}
# Those whose key-value heads are as many as their query heads unless the file says otherwise.
_MULTI_HEAD = {"llama", "Yi", "internlm2", "gpt_neox", "phi"}
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
        config = read_json(Path(path))
    except OSError as error:
        raise ValueError(f"path: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"path: cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"path: {path} holds no JSON object")
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in _GATED | _PLAIN:
        known = ", ".join(sorted(_GATED | _PLAIN))
        architectures = config.get("architectures")
        raise ValueError(f"path: {path} has model_type {kind!r} (architectures {architectures}); known are {known}")
    try:
        model = _model(config, Path(path).resolve().parent.name)
    except KeyError as error:
        raise ValueError(f"path: {path} has no {error.args[0]}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"path: {path}: {error}") from error
    # Checked after the file, so that a mistake in these is not said to be one of the file.
    model = model if max_model_len is None else replace(model, max_model_len=max_model_len)
    return model if dtype is None else replace(model, dtype=dtype, weight_only=False)


def _model(config: dict[str, Any], name: str) -> Model:
    kind = config["model_type"]
    hidden, heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
    routed = kind == "mixtral"
    ffn = "ffn_hidden_size" if kind in _FALCON else "intermediate_size"
    dtype, weight_only = _precision(config)
    return Model(
        name=name,
        num_layers=_count(config, "num_hidden_layers"),
        hidden_size=hidden,
        num_q_heads=heads,
        num_kv_heads=_kv_heads(config, heads),
        head_dim=hidden // heads if config.get("head_dim") is None else _count(config, "head_dim"),
        ffn_size=4 * hidden if kind in _FALCON and config.get(ffn) is None else _count(config, ffn),
        gated_mlp=kind in _GATED,
        vocab_size=_count(config, "vocab_size"),
        parallel_attention=_is_parallel(config),
        tied_embedding=config.get("tie_word_embeddings", kind in _TIED),
        num_experts=_count(config, "num_local_experts") if routed else 1,
        experts_per_token=_count(config, "num_experts_per_tok") if routed else 1,
        dtype=dtype,
        weight_only=weight_only,
        max_model_len=_positions(config),
    )


def _count(config: dict[str, Any], name: str) -> int:
    """Return a number of the file.

    Raises:
        KeyError: It is not there.
        ValueError: It is not a whole number of at least 1.
    """
    former = _FORMER_NAMES.get(name)
    key = former if former in config and name not in config else name
    value = config[key]
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST:
        raise ValueError(f"{key} must be an integer from 1 to {LARGEST}, got {value!r}")
    return value


def _positions(config: dict[str, Any]) -> int:
    # The first Falcon models do not state the 2048 positions that they were trained with.
    if config["model_type"] in _FALCON and "max_position_embeddings" not in config:
        return 2048
    return _count(config, "max_position_embeddings")


def _kv_heads(config: dict[str, Any], heads: int) -> int:
    if config["model_type"] not in _FALCON:
        absent = config.get("num_key_value_heads") is None
        return heads if absent and config["model_type"] in _MULTI_HEAD else _count(config, "num_key_value_heads")
    # Files of Falcon-7B that were saved again state 71 key-value heads beside multi_query: it has one.
    if config.get("new_decoder_architecture") or config["model_type"] == "RefinedWeb":
        return _count(config, "num_kv_heads")
    return 1 if config.get("multi_query", True) else heads


def _is_parallel(config: dict[str, Any]) -> bool:
    kind = config["model_type"]
    if kind in _FALCON:
        return bool(config.get("parallel_attn", True) or config.get("new_decoder_architecture"))
    return kind == "phi" or (kind == "gpt_neox" and bool(config.get("use_parallel_residual", True)))


def _precision(config: dict[str, Any]) -> tuple[str, bool]:
    """Return the format of the weights, and whether they are widened to multiply.

    Raises:
        ValueError: It is not known here.
    """
    quantised = config.get("quantization_config") or config.get("compression_config")
    if quantised is None:
        saved = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
        if saved not in _DTYPES:
            raise ValueError(f"torch_dtype must be one of {', '.join(_DTYPES)}, got {saved!r}")
        return _DTYPES[saved], False
    if not isinstance(quantised, dict):
        raise ValueError(f"quantization_config must be an object, got {quantised!r}")
    bits, kind, weight_only = _quantisation(quantised)
    names = {(4, "int"): "int4", (8, "int"): "int8", (8, "float"): "fp8"}
    if (bits, kind) not in names:
        method = quantised.get("quant_method")
        raise ValueError(
            f"quantization_config of {method!r} with {bits} bits of {kind} is not known; known are awq and "
            "gptq of 4 or 8 bits, fp8, compressed-tensors of 4 or 8 bits, bitsandbytes"
        )
    return names[bits, kind], weight_only


def _quantisation(quantised: dict[str, Any]) -> tuple[Any, str, bool]:
    """Bits of a weight, whether they are an integer or a float, and whether activations stay as they are."""
    method = quantised.get("quant_method")
    if method == "fp8":
        return 8, "float", False
    if method in ("awq", "gptq"):
        return quantised["bits"], "int", True
    if quantised.get("load_in_4bit") or quantised.get("load_in_8bit"):
        return (4 if quantised.get("load_in_4bit") else 8), "int", True
    groups = list(quantised["config_groups"].values()) if "config_groups" in quantised else []
    found = {
        (one["weights"]["num_bits"], one["weights"]["type"], one.get("input_activations") is None) for one in groups
    }
    return found.pop() if len(found) == 1 else (None, "an unknown kind", True)
