"""Options of vLLM about CUDA graphs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from simulator.config import ConfigError

LARGEST = 512
SIZES, MIXED, MEMORY = "engine.decode_graph_sizes", "engine.mixed_graphs", "engine.memory.graph_mib_per_layer"
_KEYS = ("cudagraph_capture_sizes", "max_cudagraph_capture_size", "cudagraph_mode")
# Keys of --compilation-config, with the value that changes nothing.
_NEUTRAL = {"level": 3, "mode": 3, "full_cuda_graph": True, "use_inductor": True}
_DEFAULT_MODE, _DECODE_MODE = "FULL_AND_PIECEWISE", "FULL_DECODE_ONLY"


def default_sizes(max_num_seqs: int | None = None, max_num_batched_tokens: int | None = None) -> list[int]:
    """Return the batch sizes that vLLM captures (config/vllm.py).

    Args:
        max_num_seqs: Running requests; None: the device's default, at least 256.
        max_num_batched_tokens: Tokens per iteration; None: the device's default, at least 512.
    """
    return sizes_up_to(min(2 * (max_num_seqs or LARGEST), max_num_batched_tokens or LARGEST, LARGEST))


def sizes_up_to(largest: int) -> list[int]:
    """Return the sizes up to a largest one, as vLLM spaces them."""
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, largest + 1, 16)]
    return [size for size in sizes if size <= largest]


def graph_settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the settings of CUDA graphs, and options that are not simulated.

    Args:
        given: Values of the options by name.

    Raises:
        ConfigError: A value cannot be read.
    """
    compilation = _compilation_config(given.get("compilation-config", "{}"))
    notes = [
        f"--compilation-config {key}"
        for key, value in compilation.items()
        if key not in _KEYS and _NEUTRAL.get(key, ()) != value
    ]
    mode = str(compilation.get("cudagraph_mode", _DEFAULT_MODE)).rpartition(".")[2].upper()
    if given.get("enforce-eager") or mode in ("NONE", "0"):
        return {SIZES: [], MEMORY: 0}, notes
    if mode not in (_DEFAULT_MODE, _DECODE_MODE):
        notes.append(f"--compilation-config cudagraph_mode {mode}")
    sizes = _sizes(given, compilation)
    return ({} if sizes is None else {SIZES: sizes}) | ({MIXED: False} if mode == _DECODE_MODE else {}), notes


def graph_options(sizes: Sequence[int], mixed: bool, max_num_seqs: int, max_num_batched_tokens: int) -> list[str]:
    """Return the options that give these CUDA graphs."""
    if not sizes:
        return ["--enforce-eager"]
    options = []
    if list(sizes) != default_sizes(max_num_seqs, max_num_batched_tokens):
        is_prefix = list(sizes) == sizes_up_to(sizes[-1])
        largest = ["--max-cudagraph-capture-size", str(sizes[-1])]
        options += largest if is_prefix else ["--cudagraph-capture-sizes", *map(str, sizes)]
    if not mixed:
        options += ["--compilation-config", json.dumps({"cudagraph_mode": _DECODE_MODE})]
    return options


def _sizes(given: Mapping[str, Any], compilation: Mapping[str, Any]) -> list[int] | None:
    """Return the captured sizes; None: the engine's own."""
    listed = given.get("cudagraph-capture-sizes", given.get("cuda-graph-sizes"))
    listed = compilation.get("cudagraph_capture_sizes") if listed is None else listed
    largest = given.get("max-cudagraph-capture-size", compilation.get("max_cudagraph_capture_size"))
    for value in (*(listed or ()), largest):
        if value is not None and type(value) is not int:
            raise ConfigError(f"sizes of CUDA graphs must be integers, got {value!r}")
    if listed:
        return sorted(set(listed))
    if largest is not None:
        return sizes_up_to(largest)
    sizes = default_sizes(given.get("max-num-seqs"), given.get("max-num-batched-tokens"))
    return None if sizes == sizes_up_to(LARGEST) else sizes


def _compilation_config(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except json.JSONDecodeError:
        config = None
    if type(config) is int:  # an optimization level of older versions
        return {"level": config}
    if not isinstance(config, dict):
        raise ConfigError(f"--compilation-config must be a JSON object, got {text!r}")
    return config
