"""The commands of `llmsim`: module, help and words for completion."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from traces.shared import command_line

PROGRAM = "llmsim"


@dataclass(frozen=True)
class Command:
    """A command of the package, which `python -m` starts too.

    Attributes:
        entry: Module whose `main` it is.
        summary: One line of help.
        config: Top-level file in `configs/` with the keys that it takes; empty: none.
        words: Other words that it takes: options such as "output=", and subcommands.
        is_group: Whether the module has a Click group `commands`, which completes itself.
    """

    entry: str
    summary: str
    config: str = ""
    words: tuple[str, ...] = ()
    is_group: bool = False

    @property
    def as_module(self) -> str:
        """How Python starts it."""
        return f"python -m {self.entry.removesuffix('.__main__')}"


_READER_WORDS = "num_requests= on_error= max_total_tokens= start_s= duration_s= find_sessions= tokenizer="
_TRACE_WORDS = f"describe convert fit picture= json= output= name= {_READER_WORDS}"
COMMANDS = {
    "run": Command("simulator.__main__", "Simulate a deployment that serves a trace.", "config"),
    "capacity": Command("simulator.capacity.__main__", "Search for the highest load within an SLO.", "capacity"),
    "search": Command("simulator.search.__main__", "Search for the cheapest deployment within an SLO.", "search"),
    "token-budget": Command(
        "simulator.token_budget.__main__", "Find the token budget for a bound on the TBT.", "token_budget"
    ),
    "predict": Command("simulator.predict", "Predict the time of one batch, operator by operator.", "predict"),
    "plot": Command(
        "simulator.plot.__main__", "Plot runs, sweeps and searches.", words=("output=", "format=", "plots=")
    ),
    "report": Command("simulator.report.__main__", "Write an HTML report of runs.", words=("output=",)),
    "compare": Command("simulator.compare.__main__", "Compare runs, simulated or measured.", words=("output=",)),
    "accuracy": Command(
        "simulator.accuracy.__main__",
        "Compare predictions with measured serving.",
        words=("only=", "output=", "bench="),
    ),
    "reproduce": Command(
        "simulator.reproduce.__main__",
        "Run the experiments of the Sarathi-Serve paper.",
        words=("all", "figure=", "table=", "output=", "seeds=", "workers="),
    ),
    "traces": Command("traces.__main__", "Describe, convert and fit request files.", words=tuple(_TRACE_WORDS.split())),
    "profile": Command("profiling.__main__", "Measure GPUs; fit and evaluate profiles.", is_group=True),
    "schema": Command("simulator.schema", "Print the JSON Schema of configurations.", words=("output=", "config_dir=")),
}


def start(name: str, arguments: Sequence[str]) -> None:
    """Run a command in this process, as `python -m` would.

    Raises:
        SystemExit: With the exit status of the command, if it is not 0.
    """
    names = {command.as_module: f"{PROGRAM} {other}" for other, command in COMMANDS.items()}
    sys.argv = [f"{PROGRAM} {name}", *arguments]
    with command_line.showing_commands_as(names):
        import_module(COMMANDS[name].entry).main()
