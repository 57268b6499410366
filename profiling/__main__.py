"""`python -m profiling`: measure operators, record an engine, fit and evaluate profiles."""

import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from traces.shared import command_line
from traces.shared.lazy_commands import LazyGroup

# Module and name of each command.
_COMMANDS = {
    "measure": ("profiling.measure.command", "command"),
    "record": ("profiling.serving.command", "command"),
    "validate": ("profiling.validate.command", "command"),
    "campaign": ("profiling.campaign", "command"),
    "front-end": ("profiling.front_end.command", "command"),
    "import": ("profiling.importers.command", "command"),
    **{
        name: ("profiling.commands", name)
        for name in ("fit", "evaluate", "ratios", "compare", "links", "host", "launch")
    },
}


def _imported(module: str, name: str) -> click.Command:
    command = getattr(import_module(module), name)
    assert isinstance(command, click.Command)
    return command


class _Commands(LazyGroup):
    """The commands, completed without their descriptions: these would import all of them."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem[str]]":
        """Complete the name of a command."""
        return [CompletionItem(name) for name in self.list_commands(ctx) if name.startswith(incomplete)]


commands = _Commands(
    lazy={name: partial(_imported, *place) for name, place in _COMMANDS.items()},
    help="Measure operators, record an engine, fit and evaluate profiles.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    command_line.run(_run, list(sys.argv[1:] if arguments is None else arguments), _one_line)


def _run(arguments: list[str]) -> int:
    try:
        with commands.make_context(command_line.as_called("python -m profiling"), arguments) as context:
            commands.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "sklearn":
            raise
        raise ValueError("fitting needs scikit-learn: pip install 'llm-serving-simulator[fit]'") from error
    return 0


def _one_line(error: Exception) -> str:
    return error.format_message() if isinstance(error, click.ClickException) else command_line.plain_line(error)


if __name__ == "__main__":
    main()
