"""Writes fitted generators as configuration files."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from traces.base import Arrivals, Source
from traces.shared.whole_files import write_whole
from traces.tools.fit import Fit

# Requests of a run, as of the other generators.
NUM_REQUESTS = 512
_WIDTH = 110


def write_generators(fitted: Fit, folder: Path, name: str, comments: Sequence[str]) -> list[Path]:
    """Write trace/NAME.yaml and, if arrivals were fitted, arrival/NAME.yaml, for `--config-dir`.

    Args:
        fitted: The generators.
        folder: Gets the folders trace and arrival.
        name: Name of both choices.
        comments: Lines at the top.

    Returns:
        The files.

    Raises:
        OSError: A file cannot be written. None is left half-written.
    """
    parts: dict[str, Source | Arrivals | None] = {"trace": fitted.source, "arrival": fitted.arrivals}
    paths = []
    for group, part in parts.items():
        if part is None:
            continue
        node = as_node(part)
        if group == "trace":
            node["num_requests"] = NUM_REQUESTS
        text = "".join(f"# {line}\n" for line in comments)
        text += yaml.safe_dump(node, sort_keys=False, default_flow_style=None, width=_WIDTH)
        path = folder / group / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
        paths.append(path)
    return paths


def as_node(part: Any) -> Any:
    """Return what builds an object: its class as `_target_` and its fields, as plain values."""
    if is_dataclass(part) and not isinstance(part, type):
        own = {one.name: as_node(getattr(part, one.name)) for one in fields(part)}
        return {"_target_": f"{type(part).__module__}.{type(part).__qualname__}", **own}
    return [as_node(one) for one in part] if isinstance(part, list | tuple) else part
