"""Parts that the commands share: Hydra entry point, sweeps, terminal tables."""

from simulator.cli.help_text import HELP
from simulator.cli.summary_table import print_summary
from simulator.cli.sweep import Figures, SweepReport
from simulator.cli.sweep_table import WARNINGS_JOINT, as_written
from simulator.cli.terminal import run_command, terminal_table

__all__ = [
    "HELP",
    "WARNINGS_JOINT",
    "Figures",
    "SweepReport",
    "as_written",
    "print_summary",
    "run_command",
    "terminal_table",
]
