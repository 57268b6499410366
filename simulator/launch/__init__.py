"""Command lines of serving engines, to deployments and back."""

from simulator.launch.answer import launch_lines, planning_lines
from simulator.launch.arguments import with_launch
from simulator.launch.launch import Launch
from simulator.launch.reading import read_file, read_words

__all__ = [
    "Launch",
    "launch_lines",
    "planning_lines",
    "read_file",
    "read_words",
    "with_launch",
]
