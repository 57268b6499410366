"""Table of configurations."""

from collections.abc import Mapping
from typing import Any

from simulator.results import Column, Table, flat, table_of

_LONGEST_VALUE = 70


def configuration_table(configs: Mapping[str, Any], only_differences: bool) -> Table:
    """Return configurations by name, one row per key."""
    texts = [{key: _text(value) for key, value in flat(config).items()} for config in configs.values()]
    rows = []
    for key in dict.fromkeys(key for config in texts for key in config):
        values = [config.get(key, "-") for config in texts]
        # Output options do not affect the simulation.
        if not only_differences or (len(set(values)) > 1 and not key.startswith("output.")):
            rows.append({"key": key, **dict(zip(configs, values, strict=True))})
    columns = [
        Column("key", "key", str),
        *(Column(name, name if len(configs) > 1 else "value", str) for name in configs),
    ]
    return table_of("Configuration differences" if only_differences else "Configuration", columns, rows)


def _text(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}\N{HORIZONTAL ELLIPSIS}"
