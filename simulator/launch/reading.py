"""Read launches: a command line, a script or a manifest."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from simulator.config import MOST_NODES, ConfigError, named, num_nodes, published_models
from simulator.launch import sarathi_serve, vllm
from simulator.launch.docker_run import run_container
from simulator.launch.launch import Launch, config_file
from simulator.launch.manifest import Container, containers, model_uri
from simulator.launch.shell import assignments, commands, substituted
from traces.shared.json_file import read_bytes, reading

ENGINES = (vllm, sarathi_serve)
_SUFFIXES = (".yaml", ".yml", ".json")
_KNOWN = (
    "vllm serve MODEL, python -m vllm.entrypoints.openai.api_server, python -m sarathi.entrypoints.openai.api_server"
)
# Servers that are not simulated, by a word of their command.
_OTHERS = {
    "sglang": "SGLang",
    "trtllm-serve": "TensorRT-LLM",
    "text-generation-launcher": "Text Generation Inference",
    "lmdeploy": "LMDeploy",
}


def read_words(words: Sequence[str]) -> Launch:
    """Read the words of a command line.

    Raises:
        ConfigError: It is no launch of an engine that is simulated, or has options that the engine would refuse.
    """
    found = _launch(words, {})
    if found is None:
        raise ConfigError(f"{' '.join(words)[:60]!r} does not launch a simulated engine; known are: {_KNOWN}")
    return found


def read_file(path: str) -> Launch:
    """Read a script with a command line, or a YAML manifest.

    Raises:
        ConfigError: The file cannot be read, or has no or several launches.
    """
    with named(""), reading(path, "a file with a launch", "serve: "):
        text = read_bytes(Path(path)).decode("utf-8-sig")
    launches = list(_manifest_launches(path, text) if path.endswith(_SUFFIXES) else _script_launches(text, {}))
    if not launches:
        raise ConfigError(f"serve={path} has no command that launches a simulated engine; known are: {_KNOWN}")
    if len(launches) > 1:
        names = ", ".join(name for name, _ in launches)
        raise ConfigError(f"serve={path} has {len(launches)} launches ({names}): leave one of them")
    return launches[0][1]


def _launch(words: Sequence[str], variables: Mapping[str, str]) -> Launch | None:
    """Return the launch of a command, or None."""
    own, words = assignments(words)
    known = {**variables, **own}
    container = run_container(words)
    if container is not None:
        known, words = {**known, **container[0]}, container[1]
    for engine in ENGINES:
        for index in range(len(words)):
            is_image = index == 0 and bool(engine.IMAGE and engine.IMAGE.fullmatch(words[0]))
            length = is_image + _start_length(words[index + is_image :], engine.STARTS)
            if length:
                launch: Launch = engine.read(substituted(words[index + length :], known), known)
                return launch
    for word in words:
        name = next((name for key, name in _OTHERS.items() if key in word), None)
        if name is not None:
            raise ConfigError(f"{name} is not simulated; simulated engines are started by: {_KNOWN}")
    return None


def _start_length(words: Sequence[str], starts: Sequence[Sequence[str]]) -> int:
    """Return how many words match the start of a command."""
    plain = [word.rpartition("/")[2] for word in words[:1]] + list(words[1:])
    return next((len(start) for start in starts if plain[: len(start)] == list(start)), 0)


def _script_launches(text: str, variables: Mapping[str, str]) -> Iterator[tuple[str, Launch]]:
    known = dict(variables)
    for number, words in enumerate(commands(text), 1):
        own, rest = assignments(words)
        if not rest:
            known |= own
        launch = _launch(words, known) if rest else None
        if launch is not None:
            yield f"command {number}", launch


def _manifest_launches(path: str, text: str) -> Iterator[tuple[str, Launch]]:
    documents = _documents(path, text)
    for container in containers(documents):
        launch = _container_launch(container) if container.replicas else None
        if launch is not None:
            yield container.name or "a container", _with_uri(launch, documents).replicated(container.replicas)


def _container_launch(container: Container) -> Launch | None:
    if container.script:
        return next((launch for _, launch in _script_launches(container.script, container.variables)), None)
    return _launch(container.words, container.variables)


def _with_uri(launch: Launch, documents: Any) -> Launch:
    """Return the launch with the model that the manifest mounts.

    It stays as it is if the line names a known model.
    """
    if launch.model.lower() in published_models() or config_file(launch.model) is not None:
        return launch
    uri = model_uri(documents)
    return launch if uri is None else replace(launch, model=uri)


def _documents(path: str, text: str) -> list[Any]:
    """Return the documents of a YAML file.

    Raises:
        ConfigError: It is not YAML, or too large with aliases expanded.
    """
    try:
        nodes = list(yaml.compose_all(text, yaml.SafeLoader))
        if sum(map(num_nodes, nodes)) > MOST_NODES:
            raise ConfigError(f"serve={path} has more than {MOST_NODES:,} values with aliases expanded")
        return list(yaml.safe_load_all(text))
    except RecursionError:
        raise ConfigError(f"serve={path} is nested too deeply, or refers to itself") from None
    except yaml.MarkedYAMLError as error:
        line = 0 if error.problem_mark is None else error.problem_mark.line + 1
        raise ConfigError(f"serve={path}, line {line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"serve={path} is not YAML: {' '.join(str(error).split())}") from None
