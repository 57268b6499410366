"""The commands of `llmsim`: module, one line of help, and words for completion."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from traces.shared import command_line, interruption

PROGRAM = "llmsim"


@dataclass(frozen=True)
class Command:
    """A command of the package, which `python -m MODULE` starts too.

    Attributes:
        module: What `python -m` takes.
        summary: One line of help.
        config: Top-level file in `configs/` with the keys that it takes; empty: none.
        words: Other words that it takes: options such as "output=", and subcommands.
        is_package: Whether the command is in `__main__` of the module.
        is_group: Whether that has a Click group `commands`, which completes itself.
    """

    module: str
    summary: str
    config: str = ""
    words: tuple[str, ...] = ()
    is_package: bool = True
    is_group: bool = False


_TRACE_KEYS = "num_requests= on_error= max_total_tokens= start_s= duration_s= find_sessions= tokenizer="
_TRACE_WORDS = f"describe convert fit picture= json= output= name= {_TRACE_KEYS}"
COMMANDS = {
    "run": Command("simulator", "Simulate a deployment that serves a trace.", "config"),
    "capacity": Command("simulator.capacity", "Search for the highest load within an SLO.", "capacity"),
    "search": Command("simulator.search", "Search for the cheapest deployment within an SLO.", "search"),
    "token-budget": Command("simulator.token_budget", "Find the token budget for a bound on the TBT.", "token_budget"),
    "predict": Command(
        "simulator.predict", "Predict the time of one batch, operator by operator.", "predict", is_package=False
    ),
    "plot": Command("simulator.plot", "Plot runs, sweeps and searches.", words=("output=", "format=", "plots=")),
    "report": Command("simulator.report", "Write an HTML report of runs.", words=("output=",)),
    "compare": Command("simulator.compare", "Compare runs, simulated or measured.", words=("output=",)),
    "accuracy": Command(
        "simulator.accuracy", "Compare predictions with measured serving.", words=("only=", "output=", "bench=")
    ),
    "reproduce": Command(
        "simulator.reproduce",
        "Run the experiments of the Sarathi-Serve paper.",
        words=("all", "figure=", "table=", "output=", "seeds=", "workers="),
    ),
    "traces": Command("traces", "Describe, convert and fit request files.", words=tuple(_TRACE_WORDS.split())),
    "profile": Command("profiling", "Measure GPUs; import, fit and evaluate measurements.", is_group=True),
    "schema": Command(
        "simulator.schema", "Print the JSON Schema of configurations, for editors.", words=("output=", "config_dir="), is_package=False
    ),
}


def start(name: str, arguments: Sequence[str]) -> None:
    """Run a command in this process, as `python -m` would.

    Raises:
        SystemExit: With the exit status of the command, if it is not 0.
    """
    interruption.listen()  # Ctrl-C is one line during the imports too
    command_line.show_commands_as({f"python -m {other.module}": f"{PROGRAM} {name}" for name, other in COMMANDS.items()})
    sys.argv = [f"{PROGRAM} {name}", *arguments]
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # `python -m` finds the user's own packages there
    command = COMMANDS[name]
    import_module(f"{command.module}.__main__" if command.is_package else command.module).main()
