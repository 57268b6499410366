"""Containers in manifests: Kubernetes, llm-d, KServe, Dynamo, Docker Compose."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.launch.shell import split_words, with_defaults

_SCRIPT_FLAG = re.compile(r"-\w*c")  # of a shell: the next word is a script
_SHELLS = ("sh", "bash", "zsh", "dash")
_MODEL_URI = "hf://"
_NOT_BELOW = ("command", "args", "env", "entrypoint", "environment")


@dataclass(frozen=True)
class Container:
    """A container of a manifest.

    Attributes:
        name: Its name after those of the objects around it.
        words: Words of its command and arguments; without a command, the image and the arguments.
        script: Shell script that it runs in place of `words`, or "".
        replicas: Number of its pods.
        variables: Environment variables with plain values.
    """

    name: str
    words: list[str]
    script: str
    replicas: int
    variables: Mapping[str, str]


def containers(node: Any, name: str = "", replicas: int = 1) -> Iterator[Container]:
    """Yield all containers with a command below a node of a manifest.

    Args:
        node: Mappings and lists of a YAML document.
        name: Names of the objects around it.
        replicas: Replicas of the nearest object that states them.
    """
    if isinstance(node, list):
        for item in node:
            yield from containers(item, name, replicas)
    if not isinstance(node, dict):
        return
    metadata = node.get("metadata")
    own = node.get("name", metadata.get("name") if isinstance(metadata, dict) else None)
    name = (f"{name} {own}" if name else own) if isinstance(own, str) else name
    replicas = _replicas(node, replicas)
    words = [*_words(node.get("command")), *_words(node.get("args"))]
    if words and not node.get("command"):
        words = [str(node.get("image", "")), *words]
    if words:
        yield Container(name, words, _script(words), replicas, _variables(node.get("env")))
    for key, value in node.items():
        if key == "services" and isinstance(value, dict):
            for service, child in value.items():
                yield from _service_containers(child, f"{name} {service}".strip(), replicas)
        elif key not in _NOT_BELOW and not str(key).startswith("x-"):  # x- is a fragment for aliases
            yield from containers(value, name, replicas)


def _service_containers(node: Any, name: str, replicas: int) -> Iterator[Container]:
    """Yield the container of a Docker Compose service.

    Below a service of another kind, yield all containers.
    """
    is_compose = isinstance(node, dict) and "image" in node and "containers" not in node
    if not is_compose:
        yield from containers(node, name, replicas)
        return
    deploy = node.get("deploy")
    stated = deploy.get("replicas") if isinstance(deploy, dict) else node.get("scale")
    # The command is that of the entry point. $$ stands for a dollar sign; other variables are those of the host.
    entry = _words(node.get("entrypoint")) or [with_defaults(str(node["image"]))]
    words = [word.replace("$$", "$") for word in [*entry, *_words(node.get("command"))]]
    variables = {key: with_defaults(value) for key, value in _variables(node.get("environment")).items()}
    yield Container(name, words, _script(words), stated if type(stated) is int else replicas, variables)


def _replicas(node: Mapping[str, Any], outer: int) -> int:
    """Return the replicas of an object; `outer` if it states none."""
    if type(node.get("replicas")) is int:
        return int(node["replicas"])
    if type(node.get("minReplicas")) is int:
        return max(1, int(node["minReplicas"]))  # one that is scaled to zero has a replica under load
    return outer


def _script(words: Sequence[str]) -> str:
    """Return the script that the words hand to a shell, or ""."""
    start = next((index for index, word in enumerate(words[:2]) if word.rpartition("/")[2] in _SHELLS), len(words))
    flags = [index for index in range(start + 1, len(words) - 1) if _SCRIPT_FLAG.fullmatch(words[index])]
    return words[flags[0] + 1] if flags else ""


def model_uri(node: Any) -> str | None:
    """Return the first model that a manifest names as hf://NAME."""
    if isinstance(node, str):
        return node.removeprefix(_MODEL_URI) if node.startswith(_MODEL_URI) else None
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return next((name for name in map(model_uri, children) if name is not None), None)


def _words(value: Any) -> list[str]:
    """Return the words of a command, which may be one text."""
    if isinstance(value, str):
        return split_words(value)
    return [str(word) for word in value] if isinstance(value, list) else []


def _variables(env: Any) -> dict[str, str]:
    """Return environment variables.

    They are a mapping, or a list of names and values or of NAME=VALUE.
    """
    if isinstance(env, dict):
        return {str(name): str(value) for name, value in env.items() if not isinstance(value, dict | list)}
    listed = env if isinstance(env, list) else []
    entries = [entry for entry in listed if isinstance(entry, dict)]
    texts = [entry.partition("=") for entry in listed if isinstance(entry, str) and "=" in entry]
    named = {str(entry.get("name")): str(entry["value"]) for entry in entries if "value" in entry}
    return named | {name: value for name, _, value in texts}
