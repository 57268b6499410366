"""Sweeps over policies, each with options of its own.

`scheduler=vllm,sarathi scheduler.sarathi.token_budget=512,1024` is three jobs. Hydra alone would combine every value
with every policy, so each combination becomes a choice of one group, `policy`.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import product

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from simulator.config.components import ConfigError
from simulator.shipped import choices

GROUP = "policy"
_SCHEDULER = "scheduler"
_OF_POLICY = re.compile(r"scheduler\.(\w+)\.(.+)")


def combine_policies(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of a sweep, those of single policies combined.

    Args:
        overrides: As the user wrote them. `scheduler.NAME.OPTION=VALUES` is an option of the policy NAME.

    Raises:
        ConfigError: An option is of a policy that the sweep does not have.
    """
    options: dict[str, list[str]] = {}
    rest = []
    for override in overrides:
        key, _, values = override.lstrip("+").partition("=")
        match = _OF_POLICY.fullmatch(key)
        if match is not None and match[1] in choices(_SCHEDULER):
            options.setdefault(match[1], []).append(f"{match[2]}={values}")
        else:
            rest.append(override)
    if not options:
        return rest
    policies = [override for override in rest if override.lstrip("+").startswith(f"{_SCHEDULER}=")]
    names = policies[-1].partition("=")[2].split(",") if policies else []
    for name in options:
        if name not in names:
            raise ConfigError(f"scheduler.{name}.{options[name][0]}: {name} is not swept; write scheduler={name},...")
    combined = [choice for name in names for choice in _combinations(name, options.get(name, []))]
    quoted = ",".join(f"'{choice}'" for choice in combined)
    rest[rest.index(policies[-1])] = f"+{GROUP}={quoted}"
    return [override for override in rest if override not in policies]


def overrides_of(choice: str) -> list[str]:
    """Return the overrides of a choice such as "sarathi token_budget=512"."""
    name, *options = choice.split(" ")
    return [f"{_SCHEDULER}={name}", *(f"{_SCHEDULER}.{option}" for option in options)]


def _combinations(name: str, options: Sequence[str]) -> Iterator[str]:
    """Store combinations of a policy's options as choices; yield their names."""
    parsed = OverridesParser.create().parse_overrides(list(options))
    values = [
        list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.get_value_string()]
        for override in parsed
    ]
    for chosen in product(*values):
        written = [f"{override.key_or_group}={value}" for override, value in zip(parsed, chosen, strict=True)]
        config = OmegaConf.create({"defaults": [{f"override /{_SCHEDULER}": name}]})
        config[_SCHEDULER] = OmegaConf.from_dotlist(written)
        choice = " ".join([name, *written])
        ConfigStore.instance().store(choice, config, GROUP, "_global_")
        yield choice
