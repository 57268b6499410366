"""A launch of a serving engine, as the simulator composes it."""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from simulator.config import ConfigError, model_choice, named, published_models, unknown_model
from simulator.model import Model, read_hf_config
from traces.shared.spelling import nearest

DERIVED = "${"  # start of a value that follows from others
_PLAIN = re.compile(r"[\w./+-]+")


@dataclass(frozen=True)
class Launch:
    """What a command line of an engine says of a deployment.

    Attributes:
        model: Name on Hugging Face, name of a shipped model, or local folder.
        max_model_len: Longest admitted sequence, tokens; None: as many as the model has positions.
        settings: Values by key of the configuration, without those of the model.
        not_simulated: Options with an effect that the simulator does not have, and why.
    """

    model: str
    max_model_len: int | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    not_simulated: Sequence[str] = ()

    def replicated(self, num_replicas: int) -> "Launch":
        """Return this launch on several replicas."""
        replicas = num_replicas * self.settings.get("cluster.replicas", 1)
        return replace(
            self, settings={**self.settings, "cluster.replicas": replicas} if replicas > 1 else self.settings
        )

    def overrides(self, known_model: bool = False) -> list[str]:
        """Return the overrides that compose the deployment.

        Args:
            known_model: Whether other overrides choose the model.

        Raises:
            ConfigError: The model is neither shipped nor a local folder with a config.json.
        """
        if known_model:
            settings = {key: value for key, value in self.settings.items() if key != "model.dtype"}
        else:
            settings = {**_model_settings(self.model), **self.settings}
        if self.max_model_len is not None:
            settings["model.max_model_len"] = self.max_model_len
        return [f"{key}={override_value(value)}" for key, value in settings.items()]


def model_of(name: str) -> Model | None:
    """Read the config.json of a local model.

    Returns None if the name is not that of a folder.

    Raises:
        ConfigError: The file cannot be read.
    """
    path = config_file(name)
    if path is None:
        return None
    with named(name, ": "):
        return read_hf_config(str(path))


def config_file(name: str) -> Path | None:
    """Return the config.json of a local folder, or None."""
    path = Path(name)
    if path.name != "config.json":
        path = path / "config.json"
    return path if path.is_file() else None


def _model_settings(name: str) -> dict[str, Any]:
    local = config_file(name)
    if local is not None:
        return {"model": "hf", "model.path": str(local), "model.max_model_len": None}
    published = published_models().get(name.lower())
    choice = model_choice(name)
    if published is None and not Path(choice).name == choice:
        raise ConfigError(f"{name}: {unknown_model(name)}")
    limit = {} if published is None else {"model.max_model_len": published.max_positions}
    return {"model": choice, **limit}


def override_value(value: Any) -> str:
    """Return a value in the syntax of overrides."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(override_value, value))}]"
    text = str(value)
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class EngineParser(argparse.ArgumentParser):
    """Parser of an engine's arguments, whose `prog` names it in errors."""

    def error(self, message: str) -> NoReturn:
        """Raise a ConfigError.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(f"{self.prog}: {message}")

    def given(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Return the values of the options that are given, by name.

        Raises:
            ConfigError: The engine does not have an option; the message has the nearest one.
        """
        options, unknown = self.parse_known_args(list(arguments))
        for option in (argument.partition("=")[0] for argument in unknown):
            if not option.startswith("-"):
                raise ConfigError(f"{self.prog}: {option} belongs to no option")
            hint = nearest(option, self._option_string_actions).rstrip() or "leave it out to go on without it"
            raise ConfigError(f"{self.prog} has no option {option}; {hint}")
        return {name: value for name, value in vars(options).items() if value is not None}
