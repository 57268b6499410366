"""Sweeps over policies, each with options of its own.

`scheduler=vllm,sarathi scheduler.sarathi.token_budget=512,1024` is three jobs. Hydra alone would combine every value
with every policy, so each combination becomes a choice of one group, `policy`.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import product
from urllib.parse import quote, unquote

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
    names = [str(_value(text)) for text in _texts(policies[-1].lstrip("+"))] if policies else []
    for name in options:
        if name not in names:
            raise ConfigError(f"scheduler.{name}.{options[name][0]}: {name} is not swept; write scheduler={name},...")
    combined = [choice for name in names for choice in _combinations(name, options.get(name, []))]
    quoted = ",".join(f"'{choice}'" for choice in combined)
    rest[rest.index(policies[-1])] = f"+{GROUP}={quoted}"
    return [override for override in rest if override not in policies]


def overrides_of(choice: str) -> list[str]:
    """Return the overrides of a choice such as "sarathi token_budget=512".

    Its values are percent-encoded, since they may have spaces, commas and quotes.
    """
    name, *options = choice.split(" ")
    return [f"{_SCHEDULER}={name}", *(f"{_SCHEDULER}.{unquote(option)}" for option in options)]


def _combinations(name: str, options: Sequence[str]) -> Iterator[str]:
    """Store combinations of a policy's options as choices; yield their names."""
    for written in product(*map(_texts, options)):
        config = OmegaConf.create({"defaults": [{f"override /{_SCHEDULER}": name}], _SCHEDULER: {}})
        for text in written:
            OmegaConf.update(config[_SCHEDULER], text.partition("=")[0], _value(text))
        choice = " ".join([name, *(quote(text, safe="=") for text in written)])
        ConfigStore.instance().store(choice, config, GROUP, "_global_")
        yield choice


def _texts(override: str) -> list[str]:
    """Return the overrides that a sweep over values stands for."""
    (parsed,) = OverridesParser.create().parse_overrides([override])
    values = parsed.sweep_string_iterator() if parsed.is_sweep_override() else [parsed.get_value_string()]
    return [f"{parsed.key_or_group}={value}" for value in values]


def _value(override: str) -> object:
    return OverridesParser.create().parse_overrides([override])[0].value()
