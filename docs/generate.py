"""Hooks of mkdocs: pages that are made from the code, see `hooks` in mkdocs.yml."""

from importlib import import_module

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# Commands and the module that holds the text of their --help.
COMMANDS = {
    "simulator": "simulator.cli.help_text",
    "simulator.predict": "simulator.predict",
    "simulator.capacity": "simulator.capacity.__main__",
    "simulator.token_budget": "simulator.token_budget.__main__",
    "simulator.search": "simulator.search.__main__",
    "simulator.compare": "simulator.compare.__main__",
    "simulator.accuracy": "simulator.accuracy.__main__",
    "simulator.plot": "simulator.plot.__main__",
    "simulator.report": "simulator.report.__main__",
    "simulator.reproduce": "simulator.reproduce.__main__",
    "simulator.schema": "simulator.schema",
    "traces": "traces.__main__",
}


def command_line() -> str:
    """Return the page about the command line: what each command prints for --help."""
    parts = ["---\nhide: [toc]\n---\n\n# Command line\n\nWhat `--help` of each command prints.\n"]
    for command, module in COMMANDS.items():
        parts.append(f"## python -m {command}\n\n```text\n{import_module(module).HELP}\n```\n")
    return "\n".join(parts)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    files.append(File.generated(config, "reference/command_line.md", content=command_line()))
    return files
