"""Configuration files of fitted generators."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from traces.base import Arrivals, Source
from traces.shared.atomic_files import write_atomic
from traces.tools.fit import Fit

# Requests of a run by default, as in the other files of configs/trace.
NUM_REQUESTS = 512
_WIDTH = 110


def write_generators(fitted: Fit, folder: Path, name: str, comments: Sequence[str]) -> list[Path]:
    """Write trace/NAME.yaml and, if fitted, arrival/NAME.yaml, for `--config-dir`.

    Args:
        fitted: The generators.
        folder: Folder for `--config-dir`, in which the folders trace and arrival are made.
        name: Name of both files, without suffix.
        comments: Comment lines at the top of each file.

    Returns:
        Paths of the files.

    Raises:
        OSError: A file cannot be written; no partial file is left.
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
        write_atomic(path, text.encode())
        paths.append(path)
    return paths


def as_node(part: Any) -> Any:
    """Return the configuration of a dataclass: `_target_` and plain field values."""
    if is_dataclass(part) and not isinstance(part, type):
        values = {field.name: as_node(getattr(part, field.name)) for field in fields(part)}
        package = type(part).__module__.rpartition(".")[0]  # the package exports the class
        return {"_target_": f"{package}.{type(part).__qualname__}", **values}
    return [as_node(element) for element in part] if isinstance(part, list | tuple) else part
