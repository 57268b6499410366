"""Hydra configuration: compose it, check it, build the components it names."""

from simulator.config.build import build, build_experiment, build_prediction, files_of, load_config
from simulator.config.components import (
    ConfigError,
    allowing,
    component,
    named,
    require_keys,
    require_mapping,
)
from simulator.config.compose import chosen, composed, recomposed
from simulator.config.deployments import deployment_of
from simulator.config.description import description, resolved
from simulator.config.digests import code_digest, input_digests
from simulator.config.error_messages import one_line
from simulator.config.integers import integer_pairs, require_integer
from simulator.config.model_names import model_choice, published_models, unknown_model
from simulator.config.overrides import MOST_NODES, check_config_dir, check_override, num_nodes, to_hydra
from simulator.config.policy_options import combine_policies, overrides_of
from simulator.config.schema import json_schema
from simulator.config.slo import build_slo, require_objectives
from simulator.shipped import CONFIG_DIR, GROUPS, VERSION, choices

__all__ = [
    "CONFIG_DIR",
    "GROUPS",
    "MOST_NODES",
    "VERSION",
    "ConfigError",
    "allowing",
    "build",
    "build_experiment",
    "build_prediction",
    "build_slo",
    "check_config_dir",
    "check_override",
    "choices",
    "chosen",
    "code_digest",
    "combine_policies",
    "component",
    "composed",
    "deployment_of",
    "description",
    "files_of",
    "input_digests",
    "integer_pairs",
    "json_schema",
    "load_config",
    "model_choice",
    "named",
    "num_nodes",
    "one_line",
    "overrides_of",
    "published_models",
    "recomposed",
    "require_integer",
    "require_keys",
    "require_mapping",
    "require_objectives",
    "resolved",
    "to_hydra",
    "unknown_model",
]
