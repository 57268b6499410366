"""Integers of a configuration."""

from typing import Any

from omegaconf import ListConfig, OmegaConf

from simulator.config.components import named
from traces.shared.value_checks import integer, sequence

_MAX_PER_BATCH = 1 << 20  # tokens or sequences


def integer_pairs(node: Any, key: str, meaning: str, least: tuple[int, int]) -> list[tuple[int, int]]:
    """Return a list of pairs of integers.

    Args:
        node: Value of the key.
        key: Name of the key, for messages.
        meaning: Meaning of a pair, for messages.
        least: Minimum of the first and the second integer.

    Raises:
        ConfigError: The value is not such a list.
    """
    pairs: Any = OmegaConf.to_container(node) if isinstance(node, ListConfig) else node
    with named(""):
        sequence(key, pairs, f"a list of pairs {meaning}", _check_pair, meaning, least)
    return [(first, second) for first, second in pairs]


def _check_pair(name: str, pair: Any, meaning: str, least: tuple[int, int]) -> None:
    sequence(name, pair, f"a pair {meaning}", least=2, most=2)
    for index, low in enumerate(least):
        integer(f"{name}[{index}]", pair[index], low, _MAX_PER_BATCH)


def require_integer(value: Any, key: str, least: int, most: int | None = None) -> int:
    """Return a value if it is an integer from `least` to `most`.

    Raises:
        ConfigError: It is not.
    """
    with named(""):
        integer(key, value, least, most)
    return int(value)
