"""Typical batches of a run, with their time breakdowns."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from simulator.config import CONFIG_DIR, ConfigError, deployment_of
from simulator.iteration_time import time_breakdown
from simulator.model import Device
from simulator.replica import Batch
from simulator.results import ReplicaResult


def typical_batches(replica: ReplicaResult, config: dict[str, Any]) -> tuple[Device, dict[str, dict[str, Any]]]:
    """Return a replica's device, and time breakdowns of typical batches by name.

    These are the medians, by tokens, of three kinds of batches: decodes only, one prompt or chunk with decodes, and
    one prompt or chunk only.

    Args:
        replica: Result of the replica.
        config: Configuration of the run, from its summary.json.

    Raises:
        ConfigError: There is no such batch, or the deployment cannot be rebuilt, for example because the run was read
            from a file.
    """
    groups = config["cluster"].get("groups")
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        compose("config")
        group = {} if groups is None else groups[replica.placement.group]
        deployment = deployment_of(OmegaConf.create(_with_integer_keys(config)), OmegaConf.create(group))
    times = deployment.stage_times()
    columns = replica.logged.columns
    prompts, decodes = columns["num_prefills"], columns["num_decodes"]
    batches = {}
    for mask in ((prompts == 0) & (decodes > 0), (prompts == 1) & (decodes > 0), (prompts == 1) & (decodes == 0)):
        iterations = np.flatnonzero(mask)
        if len(iterations):
            tokens = columns["num_prefill_tokens"][iterations] + decodes[iterations]
            median = int(iterations[np.argsort(tokens, kind="stable")[len(iterations) // 2]])
            row = {name: int(column[median]) for name, column in columns.items() if not name.endswith("_s")}
            batches[_name(row)] = time_breakdown(times, deployment.device, _batch(row))
    if not batches:
        raise ConfigError("no iteration of the run has decodes only or a single prompt")
    return deployment.device, batches


def _with_integer_keys(node: Any) -> Any:
    """Restore the integer keys that JSON wrote as texts."""
    if isinstance(node, Mapping):
        return {int(key) if key.isdecimal() else key: _with_integer_keys(value) for key, value in node.items()}
    return node


def _batch(row: dict[str, int]) -> Batch:
    batch = Batch()
    batch.num_decodes, batch.decode_context_tokens = row["num_decodes"], row["decode_context_tokens"]
    if row["num_prefills"]:
        batch.add_chunk(0, row["num_prefill_tokens"], row["prefill_context_tokens"])
    return batch


def _name(row: dict[str, int]) -> str:
    prompt = f"{row['num_prefill_tokens']:,} prompt tokens" if row["num_prefills"] else ""
    decodes = f"{row['num_decodes']:,} decodes" if row["num_decodes"] else ""
    return " + ".join(filter(None, (prompt, decodes)))
