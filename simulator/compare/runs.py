"""Reads simulated and measured runs, whose formats are detected by their content."""

from dataclasses import replace
from pathlib import Path

from simulator.compare import aiperf, inference_perf, simulated, vllm_bench
from simulator.compare.run import Run
from traces.shared.json_file import read_json, reading

# Modules of the formats: NAME for messages, `is_result` for the content of a file, `read` for its metrics.
FORMATS = (simulated, vllm_bench, aiperf, inference_perf)


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
        raise ValueError(f"{file} is none of the results that are known: {'; '.join(form.NAME for form in FORMATS)}")
    with reading(file, form.NAME):
        run: Run = form.read(content)
    of_folder = path.is_dir() or path.name != "summary.json"
    return replace(run, name=(path if of_folder else path.parent).name.removesuffix(".json"))
