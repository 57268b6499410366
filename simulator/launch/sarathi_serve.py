"""Command lines of sarathi-serve (sarathi/config/config.py): its API servers.

Each option is the name of a configuration class and of its field, in one word.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from simulator.cluster import Deployment
from simulator.config import ConfigError
from simulator.launch.launch import EngineParser, Launch

NAME = "sarathi-serve"
MODULE = "sarathi.entrypoints.openai.api_server"
STARTS = (("-m", MODULE), ("-m", "sarathi.entrypoints.api_server"))
IMAGE = None  # no image starts it
_DEFAULT_MODEL = "meta-llama/Meta-Llama-3-8B-Instruct"
# Keys by option, with the engine's default.
_DEPLOYMENT: dict[str, tuple[str, Any]] = {
    "parallel_config_tensor_parallel_size": ("parallel.tp", 1),
    "parallel_config_pipeline_parallel_size": ("parallel.pp", 2),
    "cache_config_block_size": ("kv_cache.block_size", 16),
    "worker_config_gpu_memory_utilization": ("kv_cache.memory_utilization", 0.8),
}
_DTYPES = {"float16": "fp16", "half": "fp16", "bfloat16": "bf16", "auto": None}
_SILENT = (
    *("trust_remote_code", "download_dir", "load_format", "seed", "revision"),
    *("log_level", "output_dir", "host", "port", "api_key", "chat_template", "response_role", "server_root_path"),
    *("ssl_keyfile", "ssl_certfile", "ssl_ca_certs", "ssl_cert_reqs"),
)
# Policies by their name in the engine: prefix of their options, and keys of the options.
_SEQS = {"max_num_seqs": "max_num_seqs"}
_CHUNKS = {
    "low_chunk_size": "dynamic_chunks.low",
    "high_chunk_size": "dynamic_chunks.high",
    "chunk_schedule_max_tokens": "dynamic_chunks.max_tokens",
    "chunk_schedule_stages": "dynamic_chunks.stages",
}
_DYNAMIC = "enable_dynamic_chunking_schedule"
_POLICIES: dict[str, tuple[str, str, Mapping[str, str]]] = {
    "SARATHI": ("sarathi", "sarathi_scheduler_config", {**_SEQS, "chunk_size": "token_budget", **_CHUNKS}),
    "VLLM": ("vllm", "vllm_scheduler_config", {**_SEQS, "max_batched_tokens": "max_num_batched_tokens"}),
    "ORCA": ("orca", "orca_scheduler_config", _SEQS),
    "FASTER_TRANSFORMER": ("faster_transformer", "faster_transformer_scheduler_config", _SEQS),
    "SIMPLE_CHUNKING": ("chunked_prefills", "simple_chunking_scheduler_config", {**_SEQS, "chunk_size": "chunk_size"}),
}
_DEFAULT_SEQS = 128
# Names of the policies' classes.
POLICIES = {
    "Sarathi": "SARATHI",
    "VLLM": "VLLM",
    "Orca": "ORCA",
    "FasterTransformer": "FASTER_TRANSFORMER",
    "ChunkedPrefills": "SIMPLE_CHUNKING",
}


def read(arguments: Sequence[str], variables: Mapping[str, str]) -> Launch:  # noqa: ARG001  # no variable changes it
    """Return the launch of a command line.

    Args:
        arguments: Those after the command.
        variables: Environment variables.

    Raises:
        ConfigError: The engine would refuse an option, or the simulator does not have its value.
    """
    given = _parser().given(arguments)
    policy = given.get("scheduler_config_type", "SARATHI").upper()
    if policy not in _POLICIES:
        raise ConfigError(f"--scheduler_config_type={policy} must be one of {', '.join(_POLICIES)}")
    dtype = given.get("model_config_dtype", "float16")
    if dtype not in _DTYPES:
        raise ConfigError(f"--model_config_dtype={dtype} is not simulated; simulated are {', '.join(_DTYPES)}")
    choice, prefix, keys = _POLICIES[policy]
    settings: dict[str, Any] = {"scheduler": choice, "engine": "sarathi_serve", "scheduler.max_num_seqs": _DEFAULT_SEQS}
    settings |= {key: given.get(name, default) for name, (key, default) in _DEPLOYMENT.items()}
    if _DTYPES[dtype] is not None:
        settings["model.dtype"] = _DTYPES[dtype]
    is_dynamic = bool(given.get(f"{prefix}_{_DYNAMIC}"))
    for name, key in keys.items():
        if f"{prefix}_{name}" in given and (is_dynamic or name not in _CHUNKS):
            settings[f"scheduler.{key}"] = given[f"{prefix}_{name}"]
    if "cache_config_num_gpu_blocks" in given:
        settings["kv_cache.num_blocks"] = given["cache_config_num_gpu_blocks"]
    model = given.get("model_config_model", _DEFAULT_MODEL)
    return Launch(model, given.get("model_config_max_model_len"), settings)


def _parser() -> EngineParser:
    parser = EngineParser(NAME, add_help=False)
    for name in ("model_config_model", "model_config_dtype", "scheduler_config_type"):
        parser.add_argument(f"--{name}")
    for name in ("model_config_max_model_len", "cache_config_num_gpu_blocks"):
        parser.add_argument(f"--{name}", type=int)
    for name, (_, default) in _DEPLOYMENT.items():
        parser.add_argument(f"--{name}", type=type(default))
    for _, prefix, keys in _POLICIES.values():
        for name in (*keys, "num_pipeline_stages"):
            parser.add_argument(f"--{prefix}_{name}", type=int)
    # As in the engine, any text but the empty one is true.
    parser.add_argument(f"--sarathi_scheduler_config_{_DYNAMIC}", type=bool)
    silent = [f"model_config_{name}" for name in _SILENT[:5]] + [*_SILENT[5:], "worker_config_attention_backend"]
    for name in silent:
        parser.add_argument(f"--{name}")
    return parser


def command(deployment: Deployment, model: str) -> list[str]:
    """Return the words of a command that launches one replica.

    Args:
        deployment: With a scheduler of sarathi-serve.
        model: Name on Hugging Face, or a folder.

    Raises:
        ValueError: The engine has no option for a part of the deployment.
    """
    policy = POLICIES[type(deployment.scheduler).__name__]
    _, prefix, keys = _POLICIES[policy]
    dtype = {"fp16": "float16", "bf16": "bfloat16"}.get(deployment.model.dtype)
    if dtype is None or deployment.kv_cache.dtype != "fp16":
        raise ValueError("sarathi-serve has weights and KV cache in half precision only")
    if deployment.parallel.stage_layers is not None:
        raise ValueError("sarathi-serve has no option for parallel.stage_layers")
    parts = {"parallel": deployment.parallel, "kv_cache": deployment.kv_cache}
    given = {"model_config_model": model, "model_config_dtype": dtype}
    given["model_config_max_model_len"] = str(deployment.model.max_model_len)
    for name, (key, _) in _DEPLOYMENT.items():
        part, _, field = key.partition(".")
        given[name] = str(vars(parts[part])[field])
    if deployment.kv_cache.num_blocks is not None:
        given["cache_config_num_gpu_blocks"] = str(deployment.kv_cache.num_blocks)
    given["scheduler_config_type"] = policy
    options = _policy_options(deployment, keys)
    given |= {f"{prefix}_{name}": str(value) for name, value in options.items()}
    return ["python", "-m", MODULE, *(word for item in given.items() for word in (f"--{item[0]}", item[1]))]


def _policy_options(deployment: Deployment, keys: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of the policy."""
    values = dict(vars(deployment.scheduler))
    chunks = values.pop("dynamic_chunks", None)
    is_dynamic = chunks is not None and chunks.stages > 0
    if is_dynamic:
        values |= {f"dynamic_chunks.{name}": value for name, value in vars(chunks).items()}
    options = {name: values[key] for name, key in keys.items() if values.get(key) is not None}
    return options | ({_DYNAMIC: True} if is_dynamic else {})
