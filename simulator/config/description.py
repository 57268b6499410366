"""What output files say of the configuration of their run."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from simulator.cluster import Deployment, groups_of
from simulator.config.digests import FILE_KEYS
from simulator.shipped import VERSION


def description(config: DictConfig, deployment: Deployment | Sequence[Deployment]) -> dict[str, Any]:
    """Return what every output file says of its run.

    These are config, choices, groups and version. Choices are the files of `configs/` that the command line selected,
    by group.
    """
    chosen = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    return {
        "config": resolved(config),
        "choices": {str(group): name for group, name in chosen.items() if name and not str(group).startswith("hydra")},
        "groups": [group.describe() for group in groups_of(deployment)],
        "version": VERSION,
    }


def resolved(config: DictConfig) -> dict[str, Any]:
    """Return the configuration as plain values, with paths reduced to file names.

    The folder of an input file does not affect a run. JSON has no infinite numbers; they become text.
    """
    plain: dict[Any, Any] = _without_folders(OmegaConf.to_container(config, resolve=True))
    return {str(key): value for key, value in plain.items()}


def _without_folders(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: Path(value).name if key in FILE_KEYS and isinstance(value, str) else _without_folders(value)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_without_folders(item) for item in node]
    return str(node) if isinstance(node, float) and not math.isfinite(node) else node
