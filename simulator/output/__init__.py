"""Files of a run: writing, saving and loading them."""

from simulator.output.files import REPORT, Files, write_result
from simulator.output.heading import deployment_lines, deployment_parts, heading, load_parts, title
from simulator.output.run_arguments import UsageError, parse
from simulator.output.saved_run import SUMMARY, RunError, load_result, load_summary, read_json

__all__ = [
    "REPORT",
    "SUMMARY",
    "Files",
    "RunError",
    "UsageError",
    "deployment_lines",
    "deployment_parts",
    "heading",
    "load_parts",
    "load_result",
    "load_summary",
    "parse",
    "read_json",
    "title",
    "write_result",
]
