"""Command lines of vLLM: `vllm serve`, its API server, Dynamo's worker."""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml

from simulator.cluster import Deployment
from simulator.config import ConfigError
from simulator.launch.launch import EngineParser, Launch, model_of
from simulator.launch.vllm_batch_sizes import batch_sizes
from simulator.launch.vllm_graphs import graph_options, graph_settings
from simulator.model import HALF, Model

NAME = "vllm serve"
# Words before the arguments.
STARTS = (
    ("vllm", "serve"),
    ("-m", "vllm.entrypoints.openai.api_server"),
    ("-m", "vllm.entrypoints.cli.main", "serve"),
    ("-m", "dynamo.vllm"),
)
IMAGE = re.compile(r"(?:.*/)?vllm[\w.-]*openai[\w.-]*(?:[:@].*)?")  # its entry point is the server
# Options with their keys; those with a unit or a rule of their own are in `_settings`.
INTEGERS = {
    "tensor-parallel-size": "parallel.tp",
    "pipeline-parallel-size": "parallel.pp",
    "max-num-batched-tokens": "scheduler.max_num_batched_tokens",
    "max-num-seqs": "scheduler.max_num_seqs",
    "max-num-active-seqs": "scheduler.max_num_active_seqs",
    "max-num-scheduled-tokens": "scheduler.max_num_scheduled_tokens",
    "long-prefill-token-threshold": "scheduler.long_prefill_token_threshold",
    "prefill-schedule-interval": "scheduler.prefill_schedule_interval",
    "block-size": "kv_cache.block_size",
    "num-gpu-blocks-override": "kv_cache.num_blocks",
}
NUMBERS = {"gpu-memory-utilization": "kv_cache.memory_utilization", "watermark": "scheduler.watermark"}
SWITCHES = {
    "enable-prefix-caching": "kv_cache.prefix_caching",
    "enable-chunked-prefill": "scheduler.enable_chunked_prefill",
    "scheduler-reserve-full-isl": "scheduler.scheduler_reserve_full_isl",
    "long-prefill-token-threshold-adaptive": "scheduler.long_prefill_token_threshold_adaptive",
}
POLICY = {"scheduling-policy": "scheduler.policy"}
DTYPES = {"half": "fp16", "float16": "fp16", "bfloat16": "bf16"}
KV_DTYPES = {**DTYPES, "fp8": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8"}
# What vLLM does anyway, which a command need not state.
_DEFAULTS = {
    "pipeline-parallel-size": 1,
    "block-size": 16,
    "long-prefill-token-threshold": 0,
    "prefill-schedule-interval": 1,
    "watermark": 0,
    "scheduling-policy": "fcfs",
    "enable-chunked-prefill": True,
    "scheduler-reserve-full-isl": True,
    "long-prefill-token-threshold-adaptive": False,
    "async-scheduling": True,
}
SHIPPED_DTYPE = "bf16"  # of the models in configs/model
_NOT_COMPOSED = Path(__file__).with_name("vllm_options.yaml")
PARTITION = "VLLM_PP_LAYER_PARTITION"  # environment variable, layers of each pipeline stage
_TIMES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def read(arguments: Sequence[str], variables: Mapping[str, str]) -> Launch:
    """Return the launch of a command line.

    Args:
        arguments: Those after the command.
        variables: Environment variables.

    Raises:
        ConfigError: vLLM would refuse an option, or the simulator does not have its value.
    """
    options = _parser().given(_spelled_out(_with_config_file(arguments)))
    given = {name.replace("_", "-"): value for name, value in options.items()}
    model = given.get("model", given.get("model-tag"))
    if model is None:
        raise ConfigError(f"{NAME} needs a model: {NAME} MODEL, or --model MODEL")
    max_model_len = given.get("max-model-len")
    if max_model_len is not None and max_model_len < 1:
        raise ConfigError("--max-model-len=auto is not simulated: give the number of tokens that vLLM logs")
    local = model_of(model)
    settings, notes = _settings(given, model, local)
    if PARTITION in variables:
        settings["parallel.stage_layers"] = [int(layers) for layers in re.findall(r"\d+", variables[PARTITION])]
    return Launch(model, max_model_len, settings, [*notes, *_other_effects(given, local)])


def _settings(given: Mapping[str, Any], model: str, local: Model | None) -> tuple[dict[str, Any], list[str]]:
    """Return the settings besides the model, and what is not simulated."""
    settings: dict[str, Any] = {"scheduler": "vllm_v1"}
    for name, key in (INTEGERS | NUMBERS | SWITCHES | POLICY).items():
        if name in given:
            settings[key] = given[name]
    settings |= batch_sizes(given, local) | _formats(given, model, local)
    if given.get("async-scheduling") is False:
        settings["engine"] = "vllm_v1_sync"
    if given.get("data-parallel-size", 1) != 1:
        settings["cluster.replicas"] = given["data-parallel-size"]
        # The nearest to the front end's choice among its ranks.
        settings["cluster.router"] = "least_outstanding_requests"
    graphs, notes = graph_settings(given)
    return settings | graphs, notes


def _formats(given: Mapping[str, Any], model: str, local: Model | None) -> dict[str, Any]:
    """Return the number formats of the weights and of the KV cache."""
    settings: dict[str, Any] = {}
    dtype, method, kv_dtype = (given.get(name, "auto") for name in ("dtype", "quantization", "kv-cache-dtype"))
    is_quantised = local is not None and local.dtype not in HALF
    if dtype != "auto" and dtype not in DTYPES:
        raise ConfigError(f"--dtype={dtype} is not simulated; simulated are auto, {', '.join(DTYPES)}")
    if method == "fp8" and not is_quantised:
        settings["model.dtype"] = "fp8"
    elif method not in ("auto", "None") and not is_quantised:
        raise ConfigError(
            f"--quantization={method}: {model} is not known as a checkpoint of that format; give the folder with its "
            "config.json, or --quantization=fp8"
        )
    elif dtype != "auto" and not is_quantised:
        settings["model.dtype"] = DTYPES[dtype]
    if kv_dtype != "auto":
        if kv_dtype not in KV_DTYPES:
            raise ConfigError(
                f"--kv-cache-dtype={kv_dtype} is not simulated; simulated are auto, {', '.join(KV_DTYPES)}"
            )
        settings["kv_cache.dtype"] = KV_DTYPES[kv_dtype]
    return settings


def _other_effects(given: Mapping[str, Any], local: Model | None) -> list[str]:
    """Return the options with an effect that is not simulated."""
    other = _not_composed()["other"]
    notes = [f"--{name}" for name in other["switches"] if given.get(name)]
    notes += [f"--{name}" for name in other["lists"] if name in given]
    for name, neutral in (dict.fromkeys(other["values"], ()) | other["neutral_values"]).items():
        if name in given and given[name] not in ("None", *neutral):
            notes.append(f"--{name}")
    if local is not None and local.num_experts > 1 and given.get("data-parallel-size", 1) > 1:
        notes.append("--data-parallel-size: ranks of a mixture of experts run in lockstep, replicas do not")
    if given.get("async-scheduling") is False:
        notes.append("--no-async-scheduling in a version after 0.13, whose sampler and memory differ")
    return notes


def _integer(text: str) -> int:
    """Parse an integer as vLLM does: 1k is 1,000, 1K is 1,024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgtKMGT]?)", text.strip())
    if text.strip().lower() in ("auto", "-1"):
        return -1
    if match is None or (not match[2].islower() and "." in match[1]):
        raise argparse.ArgumentTypeError(f"must be an integer, got {text!r}")
    return int(float(match[1]) * _TIMES[match[2]]) if match[2] else int(match[1])


@cache
def _not_composed() -> dict[str, Any]:
    """Return the options that the simulator does not compose."""
    options: dict[str, Any] = yaml.safe_load(_NOT_COMPOSED.read_text(encoding="utf-8"))
    return options


@cache
def _parser() -> EngineParser:
    """Return a parser with all options of vLLM, each without default."""
    silent, other, shorts = (_not_composed()[part] for part in ("silent", "other", "short"))
    parser = EngineParser(NAME, add_help=False)
    parser.add_argument("model_tag", nargs="?")

    def add(name: str, **kind: Any) -> None:
        short = [shorts[name]] if name in shorts else []
        parser.add_argument(f"--{name}", *short, default=None, **kind)

    for name in ("data-parallel-size", "max-cudagraph-capture-size", "max-model-len", *INTEGERS):
        add(name, type=_integer)
    for name in NUMBERS:
        add(name, type=float)
    add("scheduling-policy", choices=("fcfs", "priority"))
    for name in ("model", "dtype", "quantization", "kv-cache-dtype", "compilation-config"):
        add(name)
    for name in (*silent["values"], *other["values"], *other["neutral_values"]):
        add(name)
    for name in ("cudagraph-capture-sizes", "cuda-graph-sizes"):
        add(name, type=int, nargs="+")
    for name in (*silent["lists"], *other["lists"]):
        add(name, nargs="+")
    for name in silent["optional_values"]:
        add(name, nargs="?", const="")
    for name in ("async-scheduling", "enforce-eager", *SWITCHES, *silent["switches"], *other["switches"]):
        add(name, action=argparse.BooleanOptionalAction)
    parser.set_defaults(model_tag=None)
    return parser


def _with_config_file(arguments: Sequence[str]) -> list[str]:
    """Return the arguments, after those of `--config FILE`."""
    rest = list(arguments)
    for index, argument in enumerate(rest):
        name, equals, path = argument.partition("=")
        if name != "--config":
            continue
        path, end = (path, index + 1) if equals else (rest[index + 1] if index + 1 < len(rest) else "", index + 2)
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"--config {path}: cannot read it: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise ConfigError(f"--config {path} must contain options and values")
        model = [str(content.pop("model"))] if "model" in content else []
        return [*model, *(word for item in content.items() for word in _as_words(*item)), *rest[:index], *rest[end:]]
    return rest


def _as_words(name: object, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}"] if value else [f"--no-{name}"]
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value)]


def _spelled_out(arguments: Sequence[str]) -> list[str]:
    """Return the arguments in the spelling of the parser.

    `--a_b` becomes `--a-b`, `-O3` an optimization level, a switch with true or false one with or without `no-`, and
    `--json.key value` is collected into one JSON value.
    """
    words: list[str] = []
    nested: dict[str, dict[str, Any]] = {}
    rest = list(arguments)
    long = {short: name for name, short in _not_composed()["short"].items()}
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if name == "-O" and rest and rest[0].startswith("{"):  # a JSON object in older versions
            words += ["--compilation-config", rest.pop(0)]
            continue
        if name.startswith("-O"):
            words += ["--optimization-level", *([argument[2:].removeprefix("=")] if argument[2:] else [])]
            continue
        name, dot, keys = name.partition(".")
        name = f"--{long[name]}" if dot and name in long else name
        if not name.startswith("--"):
            words.append(argument)
            continue
        name = name.replace("_", "-")
        if dot and (equals or rest):
            _set_nested(nested.setdefault(name, {}), keys.split("."), value if equals else rest.pop(0))
        elif name in _switches() and (value if equals else rest[0] if rest else "").lower() in ("true", "false"):
            is_on = (value if equals else rest.pop(0)).lower() == "true"
            words.append(name if is_on else name.replace("--", "--no-", 1))
        else:
            words.append(name + equals + value)
    return words + [text for name, value in nested.items() for text in (name, json.dumps(value))]


@cache
def _switches() -> frozenset[str]:
    return frozenset(name for action in _parser()._actions if action.nargs == 0 for name in action.option_strings)


def _set_nested(values: dict[str, Any], keys: Sequence[str], text: str) -> None:
    """Set a value at nested keys; text that is JSON is parsed."""
    for key in keys[:-1]:
        values = values.setdefault(key, {})
    try:
        values[keys[-1]] = json.loads(text)
    except json.JSONDecodeError:
        values[keys[-1]] = text


def command(deployment: Deployment, model: str) -> list[str]:
    """Return the words of a command that launches one replica.

    Sizes that vLLM would choose by its version or GPU are stated too, so that any version runs the same deployment.

    Args:
        deployment: With the scheduler of vLLM V1.
        model: Name on Hugging Face, or a folder.

    Raises:
        ValueError: vLLM has no option for a part of the deployment.
    """
    parallel, engine, scheduler = deployment.parallel, deployment.engine, cast("Any", deployment.scheduler)
    parts = {"parallel": parallel, "kv_cache": deployment.kv_cache, "scheduler": scheduler}
    given: dict[str, Any] = {"max-model-len": deployment.model.max_model_len}
    for name, key in (INTEGERS | NUMBERS | POLICY | SWITCHES).items():
        part, _, field = key.partition(".")
        given[name] = getattr(parts[part], field)
    given |= {"async-scheduling": scheduler.async_scheduling, "kv-cache-dtype": _kv_dtype(deployment.kv_cache.dtype)}
    given |= _weights_option(deployment.model, model)
    words = [f"{PARTITION}={','.join(map(str, parallel.stage_layers))}"] if parallel.stage_layers else []
    words += ["vllm", "serve", model]
    for name, value in given.items():
        if isinstance(value, bool) and value != _DEFAULTS.get(name):
            words.append(f"--{'' if value else 'no-'}{name}")
        elif value not in (None, _DEFAULTS.get(name)):
            words += [f"--{name}", str(value)]
    return words + graph_options(
        engine.decode_graph_sizes, engine.mixed_graphs, scheduler.max_num_seqs, scheduler.max_num_batched_tokens
    )


def _weights_option(model: Model, name: str) -> dict[str, str]:
    """Return the option for weights in another format than the checkpoint's.

    Raises:
        ValueError: It needs a checkpoint of that format.
    """
    local = model_of(name)
    if model.dtype == (SHIPPED_DTYPE if local is None else local.dtype):
        return {}
    if model.dtype == "fp8" and not model.weight_only:
        return {"quantization": "fp8"}
    names = {"fp16": "float16", "bf16": "bfloat16"}
    if model.dtype not in names:
        raise ValueError(f"model.dtype={model.dtype} needs a checkpoint of that format, model=hf model.path=FILE")
    return {"dtype": names[model.dtype]}


def _kv_dtype(dtype: str) -> str | None:
    names = {"fp16": None, "bf16": "bfloat16", "fp8": "fp8"}
    if dtype not in names:
        raise ValueError(f"vLLM has no KV cache of kv_cache.dtype={dtype}")
    return names[dtype]
