"""Composing configurations from the files in `configs/`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from simulator.config.components import ConfigError, allowing
from simulator.config.error_messages import one_line
from simulator.config.overrides import check_override, to_hydra
from simulator.shipped import CONFIG_DIR
from traces.shared.spelling import nearest

# Defaults of engines that depend on several options.
OmegaConf.register_new_resolver("min", min, replace=True)
OmegaConf.register_new_resolver("max", max, replace=True)


@contextmanager
def composed(name: str, overrides: Sequence[str]) -> Iterator[DictConfig]:
    """Compose a top-level file of `configs/`.

    Inside the `with` block, other choices of its groups can be composed.

    Raises:
        ConfigError: An override is not allowed; the message is one line that names it.
    """
    for override in overrides:
        check_override(override, of_hydra=False)
    try:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            config = compose(name, to_hydra(overrides))
            with allowing(config.allow_targets):
                yield config
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error)) from error


def chosen(name: str, overrides: Sequence[str]) -> dict[str, str]:
    """Return the choice of each group, such as "scheduler".

    Args:
        name: Top-level file in `configs/`.
        overrides: In Hydra's syntax.
    """
    return dict(compose(name, list(overrides), return_hydra_config=True).hydra.runtime.choices)


def recomposed(name: str, overrides: Sequence[str], changed: Mapping[str, str]) -> DictConfig:
    """Compose a top-level file again with other choices of some groups.

    Args:
        name: Top-level file in `configs/`.
        overrides: In Hydra's syntax, of the configuration that is being used.
        changed: Choices by group.

    Raises:
        ConfigError: There is no such choice.
    """
    kept = [text for text in overrides if text.lstrip("+").partition("=")[0] not in changed]
    try:
        return compose(name, [*kept, *to_hydra([f"{group}={choice}" for group, choice in changed.items()])])
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error)) from error


def choose(group: str, name: str) -> DictConfig:
    """Compose the configuration with another choice of a group.

    Raises:
        ConfigError: There is no such choice.
    """
    # The loader also knows the files of --config-dir.
    allowed = sorted(GlobalHydra.instance().config_loader().get_group_options(group))
    if name not in allowed:
        hint = nearest(name, allowed)
        raise ConfigError(f"{group.rpartition('/')[2]} must be one of {', '.join(allowed)}; {hint}got {name!r}")
    return compose("config", [f"{group}={name}"])
