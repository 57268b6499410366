"""Hydra configuration: compose it, check it, build the components it names."""

from simulator.config.build import (
    build,
    build_experiment,
    build_prediction,
    composed,
    deployment_of,
    files_of,
    integer_pairs,
    load_config,
    require_integer,
    resolved,
)
from simulator.config.components import (
    ConfigError,
    allowing,
    component,
    named,
    require_keys,
    require_mapping,
)
from simulator.config.digests import code_digest, input_digests
from simulator.config.error_messages import one_line
from simulator.config.overrides import check_config_dir, check_override, to_hydra
from simulator.config.schema import json_schema
from simulator.shipped import CONFIG_DIR, GROUPS, VERSION, choices

__all__ = [
    "CONFIG_DIR",
    "GROUPS",
    "VERSION",
    "ConfigError",
    "allowing",
    "build",
    "build_experiment",
    "build_prediction",
    "check_config_dir",
    "check_override",
    "choices",
    "code_digest",
    "component",
    "composed",
    "deployment_of",
    "files_of",
    "input_digests",
    "integer_pairs",
    "json_schema",
    "load_config",
    "named",
    "one_line",
    "require_integer",
    "require_keys",
    "require_mapping",
    "resolved",
    "to_hydra",
]
