"""Containers in manifests: Kubernetes, llm-d, KServe, Dynamo, Docker Compose."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from simulator.launch.shell import split_words

_SCRIPT_FLAG = re.compile(r"-\w*c")  # of a shell: the next word is a script
_MODEL_URI = "hf://"


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
    if type(node.get("replicas")) is int:
        replicas = node["replicas"]
    elif type(node.get("minReplicas")) is int:
        replicas = max(1, node["minReplicas"])  # one that is scaled to zero has a replica under load
    words = [*_words(node.get("command")), *_words(node.get("args"))]
    if words and not node.get("command"):
        words = [str(node.get("image", "")), *words]
    if words:
        shell = [index for index, word in enumerate(words[:-1]) if _SCRIPT_FLAG.fullmatch(word)]
        is_shell = bool(shell) and words[0].rpartition("/")[2] in ("sh", "bash", "zsh", "dash")
        script = words[shell[0] + 1] if is_shell else ""
        yield Container(name, words, script, replicas, _variables(node.get("env")))
    for key, value in node.items():
        if key not in ("command", "args", "env"):
            yield from containers(value, name, replicas)


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
    """Return environment variables, a list of names and values or a mapping."""
    if isinstance(env, dict):
        return {str(name): str(value) for name, value in env.items() if not isinstance(value, dict | list)}
    entries = [entry for entry in env if isinstance(entry, dict)] if isinstance(env, list) else []
    return {str(entry.get("name")): str(entry["value"]) for entry in entries if "value" in entry}
