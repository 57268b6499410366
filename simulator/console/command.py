"""`llmsim`: one command for all of the package."""

import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module

import click
from click.shell_completion import CompletionItem, ShellComplete, shell_complete

from simulator.console.commands import COMMANDS, PROGRAM, start
from simulator.shipped import VERSION
from traces.shared import command_line
from traces.shared.lazy_commands import LazyGroup

_COMPLETE = f"_{PROGRAM.upper()}_COMPLETE"
_FLAGS = ("--help", "--multirun", "--cfg", "--resolve", "--config-dir")


class ModuleCommand(click.Command):
    """A command that a module of the package parses and runs itself."""

    def __init__(self, name: str) -> None:
        super().__init__(name, help=COMMANDS[name].summary, add_help_option=False)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments as they are."""
        ctx.args = list(args)
        return ctx.args

    def invoke(self, ctx: click.Context) -> None:
        """Run the module."""
        assert self.name is not None
        start(self.name, ctx.args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem[str]]":
        """Complete keys of the configuration, options, subcommands and files."""
        assert self.name is not None
        command = COMMANDS[self.name]
        if command.is_group:
            group = import_module(command.entry).commands
            return ShellComplete(group, {}, "", "").get_completions(ctx.args, incomplete)
        if incomplete.startswith("-"):
            flags = _FLAGS if command.config else _FLAGS[:1]
            return [CompletionItem(flag) for flag in flags if flag.startswith(incomplete)]
        if command.config:
            from simulator.console import keys  # imports PyYAML, which only this needs

            words = keys.completions(command.config, ctx.args, incomplete)
            takes_files = keys.takes_file(incomplete) or ctx.args[-1:] in (["--config-dir"], ["-cd"])
        else:
            words = [word for word in command.words if word.startswith(incomplete)]
            takes_files = True
        found = [CompletionItem(word) for word in words]
        return found or [CompletionItem(incomplete, "file")] * takes_files


console = LazyGroup(
    name=PROGRAM,
    lazy={name: partial(ModuleCommand, name) for name in COMMANDS},
    help="""Simulate LLM serving clusters.

    A key of a configuration is given as KEY=VALUE, as in: llmsim run scheduler=vllm arrival.qps=2. Each command also
    runs as a module, llmsim run as python -m simulator, llmsim capacity as python -m simulator.capacity.
    """,
)
console = click.version_option(VERSION, message=f"{PROGRAM} %(version)s")(console)


def _names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in console.list_commands(ctx) if name.startswith(incomplete)]


@console.command("help")
@click.argument("command", nargs=-1, shell_complete=_names)
@click.pass_context
def show_help(ctx: click.Context, command: Sequence[str]) -> None:
    """Show the help of a command."""
    ctx.exit(run_console([*command, "--help"]))


@console.command("completion")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")), metavar="bash|zsh|fish")
def print_completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash   eval "$(llmsim completion bash)"          in ~/.bashrc
    zsh    eval "$(llmsim completion zsh)"           in ~/.zshrc, after compinit
    fish   llmsim completion fish | source           in ~/.config/fish/config.fish
    """  # noqa: D301  # click keeps the lines behind the character \b
    _complete(f"{shell}_source")


def main() -> None:
    """Run the command line, or answer a shell that completes it."""
    if _COMPLETE in os.environ:
        sys.exit(_complete(os.environ[_COMPLETE]))
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # `python -m` finds packages of the user there
    try:
        status = run_console(sys.argv[1:])
        print(end="", flush=True)
    except BrokenPipeError:
        status = command_line.without_reader()
    sys.exit(status)


def run_console(arguments: Sequence[str]) -> int:
    """Run a command and return the exit status.

    Raises:
        SystemExit: With the exit status of a module, if it is not 0.
    """
    try:
        with console.make_context(PROGRAM, list(arguments) or ["--help"]) as context:
            console.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code if arguments else 2
    except click.UsageError as error:
        line = " ".join(error.format_message().split())
        print(f"error: {command_line.printable(line)}", file=sys.stderr)
        return 2
    return 0


def _complete(instruction: str) -> int:
    from simulator.console import completion  # noqa: F401  # registers the shells

    return shell_complete(console, {}, PROGRAM, _COMPLETE, instruction)
