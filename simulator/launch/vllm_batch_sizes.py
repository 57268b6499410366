"""Batch sizes that vLLM derives from other options (engine/arg_utils.py).

Defaults of the device are resolved when the deployment is composed.
"""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from simulator.config import ConfigError
from simulator.launch.launch import DERIVED
from simulator.model import Model

TOKENS, SEQS = "scheduler.max_num_batched_tokens", "scheduler.max_num_seqs"
_DEFAULT_TOKENS = f"{DERIVED}oc.select:device.max_num_batched_tokens,2048}}"
_DEFAULT_SEQS = f"{DERIVED}oc.select:device.max_num_seqs,256}}"
_LEAST_TOKENS = 2048  # of the defaults of devices


def batch_sizes(given: Mapping[str, Any], local: Model | None) -> dict[str, Any]:
    """Return the sizes that the options state or imply.

    Args:
        given: Values of the options by name.
        local: Model of a local folder.

    Raises:
        ConfigError: vLLM would refuse them.
    """
    tokens, seqs = given.get("max-num-batched-tokens"), given.get("max-num-seqs")
    if tokens is not None and seqs is not None and tokens < seqs:
        raise ConfigError(f"--max-num-batched-tokens={tokens} must be at least --max-num-seqs={seqs}, as vLLM requires")
    if tokens is not None:
        return {} if seqs is not None or tokens >= 1024 else {SEQS: f"{DERIVED}min:{_DEFAULT_SEQS},{tokens}}}"}
    default = _DEFAULT_TOKENS
    if given.get("enable-chunked-prefill") is False:
        longest = "${model.max_model_len}" if local is None else given.get("max-model-len", local.max_model_len)
        default = f"{DERIVED}max:{default},{longest}}}"
    if seqs is not None and seqs > _LEAST_TOKENS:
        default = f"{DERIVED}tokens_for_seqs:{default},{seqs}}}"
    return {} if default == _DEFAULT_TOKENS else {TOKENS: default}


def _tokens_for_seqs(tokens: int, seqs: int) -> int:
    """Return a default number of tokens that is enough for the sequences."""
    if tokens < seqs:
        raise InterpolationResolutionError(
            f"--max-num-seqs={seqs} is more than the {tokens} tokens of an iteration, the default on this device, "
            f"which vLLM refuses: add --max-num-batched-tokens={seqs}"
        )
    return tokens


OmegaConf.register_new_resolver("tokens_for_seqs", _tokens_for_seqs, replace=True)
