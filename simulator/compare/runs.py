"""Reads simulated and measured runs, whose formats are detected by their content."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simulator.compare import aiperf, inference_perf, simulated, vllm_bench
from simulator.compare.run import Run
from traces.shared.json_file import read_json, reading


@dataclass(frozen=True)
class Format:
    """A format of results.

    Attributes:
        name: What a file of the format is, for messages.
        is_result: Returns whether a JSON object has the format.
        read: Returns its metrics.
    """

    name: str
    is_result: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any]], Run]


FORMATS = tuple(
    Format(module.NAME, module.is_result, module.read) for module in (simulated, vllm_bench, aiperf, inference_perf)
)


def read_run(path: Path) -> Run:
    """Read a simulated or a measured run.

    It is an output folder of `python -m simulator`, or a file of one of the FORMATS.

    Raises:
        ValueError: The path is none of these; the message names it.
    """
    file = path / "summary.json" if path.is_dir() else path
    with reading(file, "readable JSON"):
        content = read_json(file, allow_nan=True)  # vLLM writes NaN for what it did not measure
    form = next((form for form in FORMATS if isinstance(content, dict) and form.is_result(content)), None)
    if form is None:
        raise ValueError(f"{file} is none of the results that are known: {'; '.join(form.name for form in FORMATS)}")
    with reading(file, form.name):
        run = form.read(content)
    of_folder = path.is_dir() or path.name != "summary.json"
    return replace(run, name=(path if of_folder else path.parent).name.removesuffix(".json"))
