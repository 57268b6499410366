"""Number formats of the weights in a Hugging Face checkpoint."""

from collections.abc import Mapping
from typing import Any

from traces.shared.value_checks import choice, instance

# Engines run single-precision checkpoints in half precision.
_DTYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp16"}
# Algorithms of NVIDIA's Model Optimizer.
_MODELOPT = {"FP8": "fp8", "NVFP4": "nvfp4"}
# Bits and kind of a weight.
_FORMATS = {(4, "int"): "int4", (8, "int"): "int8", (8, "float"): "fp8"}


def weight_format(config: Mapping[str, Any], modelopt: Mapping[str, Any] | None) -> tuple[str, bool]:
    """Return `dtype` and `weight_only` of the `Model`.

    Args:
        config: Content of config.json.
        modelopt: Content of hf_quant_config.json, which Model Optimizer writes beside it; None: there is no such file.

    Raises:
        ValueError: The format is not supported.
    """
    quantisation = config.get("quantization_config") or config.get("compression_config")
    if quantisation is None and modelopt is not None:
        quantisation = {"quant_method": "modelopt", **modelopt["quantization"]}
    if quantisation is None:
        dtype = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
        choice("torch_dtype", dtype, _DTYPES)
        return _DTYPES[dtype], False
    instance("quantization_config", quantisation, dict, "an object")
    method = quantisation.get("quant_method")
    if method == "mxfp4":
        return "mxfp4", True
    if method == "modelopt":
        choice("quant_algo", quantisation["quant_algo"], _MODELOPT)
        return _MODELOPT[quantisation["quant_algo"]], False
    bits, kind, weight_only = _bits(quantisation)
    if quantisation.get("weight_block_size") and (bits, kind) == (8, "float"):
        return "fp8_block", weight_only
    if quantisation.get("format") == "nvfp4-pack-quantized" and (bits, kind) == (4, "float"):
        return "nvfp4", weight_only
    if (bits, kind) not in _FORMATS:
        raise ValueError(
            f"quantization_config of {method!r} with {bits} bits of {kind} is not supported; supported are awq and "
            "gptq of 4 or 8 bits, fp8, fbgemm_fp8, modelopt, mxfp4, compressed-tensors of 4 or 8 bits, bitsandbytes"
        )
    return _FORMATS[bits, kind], weight_only


def _bits(quantisation: Mapping[str, Any]) -> tuple[Any, str, bool]:
    """Return the format of quantised weights.

    Returns:
        Bits of a weight, "int" or "float", and whether only weights are quantised.
    """
    method = quantisation.get("quant_method")
    if method in ("fp8", "fbgemm_fp8"):
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
