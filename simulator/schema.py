"""`python -m simulator.schema`: the JSON Schema of configuration files."""

import json
import sys
from pathlib import Path

from simulator.config import ConfigError, json_schema, one_line
from traces.shared import command_line
from traces.shared.atomic_files import atomic_file
from traces.shared.spelling import nearest

HELP = """\
Prints the JSON Schema (draft 2020-12) of a configuration, that is of files in configs/experiment and
configs/deployment: keys, types, defaults and choices.

  python -m simulator.schema [output=FILE] [config_dir=FOLDER]

  output=FILE        write it to a file instead
  config_dir=FOLDER  the folder of --config-dir, whose files may be chosen too

Editors with yaml-language-server complete and check a YAML file that begins with

  # yaml-language-server: $schema=FILE

Exit status: 0, 2 for invalid input."""
_OPTIONS = ("output", "config_dir")


def main() -> None:
    """Run the command line."""
    command_line.run(_print_schema, sys.argv[1:], one_line, usage=HELP)


def _print_schema(arguments: list[str]) -> None:
    options: dict[str, Path] = {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name in _OPTIONS and not value:
            raise ConfigError(f"{name}= needs a value")
        if name not in _OPTIONS:
            hint = nearest(name, _OPTIONS)
            raise ConfigError(f"{argument} is not an option; {hint}allowed are: --help, output=FILE, config_dir=FOLDER")
        options[name] = Path(value)
    folder = options.get("config_dir")
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"config_dir={folder}: no such folder")
    text = json.dumps(json_schema(folder), indent=2, allow_nan=False)
    if "output" not in options:
        print(text)
        return
    with atomic_file(options["output"]) as file:
        file.write(f"{text}\n")
    print(f"written to {options['output']}")


if __name__ == "__main__":
    main()
