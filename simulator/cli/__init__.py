"""Parts that the commands share: Hydra entry point, sweeps, terminal tables."""

from simulator.cli.help_text import HELP
from simulator.cli.summary_table import print_summary
from simulator.cli.sweep import Figures, SweepReport
from simulator.cli.sweep_table import WARNINGS_JOINT, as_written
from simulator.cli.terminal import print_wide, run_command

__all__ = [
    "HELP",
    "WARNINGS_JOINT",
    "Figures",
    "SweepReport",
    "as_written",
    "print_summary",
    "print_wide",
    "run_command",
]
