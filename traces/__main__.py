"""`python -m traces`: describes request files, converts them, and fits generators to them."""

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console

from traces.generators import Conversations
from traces.readers import TraceFile
from traces.shared import command_line
from traces.shared.whole_files import whole_file
from traces.tools import SUFFIXES, describe, fit, save
from traces.tools.fit import match, without_steps
from traces.tools.generator_files import write_generators
from traces.tools.report import match_cells, print_description, print_match
from traces.trace import Trace

HELP = f"""\
Describes request files, converts them, and fits generators to them.

  python -m traces describe FILE [picture=PNG] [json=FILE] [key=value ...]
  python -m traces convert FILE OUTPUT [key=value ...]
  python -m traces fit FILE [output=FOLDER] [name=NAME] [key=value ...]

FILE is of any format that the simulator reads (trace=file), plain or gzip: docs/workloads.md lists them.

  describe   counts, rates, burstiness and lengths, and a picture of them
    picture=PNG          default: the name of FILE, with .png, in this folder
    json=FILE            the figures as JSON; default: not written
  convert    writes the columns of our own; OUTPUT ends in {", ".join(SUFFIXES)}
  fit        writes trace/NAME.yaml and arrival/NAME.yaml, generators that match the file, and how well they do
    output=FOLDER        default: configs_of_mine
    name=NAME            default: the name of FILE

  num_requests=null      good rows to read at most
  on_error=error         a malformed row: error | skip (counted and reported)
  max_total_tokens=null  longest prompt and output together; longer requests are left out
  start_s=0              requests that arrive earlier are left out
  duration_s=null        seconds from there on
  find_sessions=false    make sessions of requests that go on from earlier ones
  tokenizer=null         a tokenizer.json of Hugging Face, for files that hold texts (ShareGPT)

Exit status: 0, 2 for a mistake in the input, 130 if interrupted."""
_OWN_KEYS = {"describe": ("picture", "json"), "convert": (), "fit": ("output", "name")}
_READ_KEYS = [one.name for one in fields(TraceFile) if one.name != "path"]


def main() -> None:
    """Run the command line."""
    command_line.run(_told, sys.argv[1:], lambda error: command_line.plain_line(error).removeprefix("path: "))


def _told(arguments: list[str]) -> int:
    console = Console()
    if not arguments or "--help" in arguments or "-h" in arguments:
        console.print(HELP, highlight=False, markup=False, soft_wrap=True)
        return 0 if arguments else 2
    _run(arguments, console)
    return 0


def _run(arguments: Sequence[str], console: Console) -> None:
    command, *rest = arguments
    if command not in _OWN_KEYS:
        raise ValueError(f"{command} is not a command; allowed are: {', '.join(_OWN_KEYS)}")
    paths, options = _parsed(rest, (*_OWN_KEYS[command], *_READ_KEYS))
    wanted = ["FILE", "OUTPUT"] if command == "convert" else ["FILE"]
    if len(paths) != len(wanted):
        raise ValueError(f"{command} needs {' and '.join(wanted)}, got {' '.join(paths) or 'nothing'}")
    file = TraceFile(paths[0], **{name: value for name, value in options.items() if name in _READ_KEYS})
    own = {name: Path(str(value)) for name, value in options.items() if name in _OWN_KEYS[command]}
    if command == "convert":
        _convert(file, Path(paths[1]), console)
    elif command == "fit":
        _fit(file, own, console)
    else:
        _describe(file, own, console)


def _parsed(arguments: Sequence[str], keys: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the arguments that are files, and those that are key=value; a file that is there is never a key."""
    paths, options = [], {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or Path(argument).exists():
            paths.append(argument)
        elif name not in keys:
            raise ValueError(f"{name} is not a key; allowed are: {', '.join(keys)}")
        else:
            options[name] = value if name in ("tokenizer", "picture", "json", "output", "name") else _value(value)
    return paths, options


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _loaded(file: TraceFile) -> Trace:
    return file.load(np.random.default_rng(0))


def _stem(path: str) -> str:
    return Path(path).name.removesuffix(".gz").rpartition(".")[0] or Path(path).name


def _describe(file: TraceFile, own: Mapping[str, Path], console: Console) -> None:
    picture = own.get("picture", Path(f"{_stem(file.path)}.png"))
    if picture.suffix != ".png":
        raise ValueError(f"picture={picture} must end in .png")
    trace = _loaded(file)
    figures = describe(trace)
    from traces.tools.drawing import draw  # matplotlib, which nothing else here needs

    draw(trace, Path(file.path).name, picture)
    print_description(figures, console)
    written = [str(picture)]
    if "json" in own:
        with whole_file(own["json"]) as output:
            json.dump(figures, output, indent=2, allow_nan=False)
            output.write("\n")
        written.append(str(own["json"]))
    _say_written(written, console)


def _convert(file: TraceFile, path: Path, console: Console) -> None:
    if path.exists() and path.samefile(file.path):
        raise ValueError(f"{path} is the file that is read; give the output another name")
    trace = _loaded(file)
    save(trace, path)
    console.print(f"{len(trace):,} requests", highlight=False)
    for note in trace.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    _say_written([str(path)], console)


def _fit(file: TraceFile, own: Mapping[str, Path], console: Console) -> None:
    name = _choice(own.get("name"), file.path)
    trace = without_steps(_loaded(file))
    try:
        fitted = fit(trace)
    except ValueError as error:
        raise ValueError(f"{file.path}: {error}") from error
    rows = match(trace, fitted)
    notes = [*trace.notes, *fitted.notes]
    folder = own.get("output", Path("configs_of_mine"))
    comments = [
        f"Fitted to the {len(trace):,} requests of {Path(file.path).name} by",
        f"  python -m traces fit {Path(file.path).name}{''.join(_changed(file))}",
        *(f"Note: {note}." for note in notes),
        "Match of a generated trace of as many requests: figure, of the trace, generated, error.",
        *("  " + ", ".join(cell for cell in match_cells(row) if cell) for row in rows),
    ]
    paths = write_generators(fitted, folder, name, comments)
    print_match(rows, console)
    for note in notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    _say_written(list(map(str, paths)), console)
    choices = " ".join(f"{path.parent.name}={name}" for path in paths)
    if fitted.arrivals is None and isinstance(fitted.source, Conversations):
        choices += " arrival=sessions"
    command = f"python -m simulator --config-dir {shlex.quote(str(folder))} {choices}"
    console.print(command, highlight=False, soft_wrap=True)


def _choice(given: Path | None, path: str) -> str:
    """Return the name of what is fitted, which the simulator must not have already.

    Raises:
        ValueError: It cannot be a name on the command line, or is taken.
    """
    name = re.sub(r"\W+", "_", _stem(path), flags=re.ASCII) if given is None else str(given)
    if given is None and (not name[0].isalpha() or name in _shipped()):
        name = f"fitted_{name}"
    if not re.fullmatch(r"[A-Za-z]\w*", name, flags=re.ASCII) or name.lower() in ("null", "true", "false"):
        raise ValueError(f"name must be a letter and then letters, digits and _, got {name!r}")
    if name in _shipped():
        raise ValueError(f"name={name} is one that the simulator has already; choose another")
    return name


def _shipped() -> set[str]:
    """Names that `trace=` and `arrival=` have without a folder of the user's own."""
    found = find_spec("simulator")
    packages = [Path(one) for one in (found.submodule_search_locations or [] if found else [])]
    folders = [folder / "configs" for package in packages for folder in (package, package.parent)]
    return {
        path.stem for folder in folders for group in ("trace", "arrival") for path in (folder / group).glob("*.yaml")
    }


def _changed(file: TraceFile) -> Iterator[str]:
    """Yield the options that are not as by default."""
    for one in fields(file):
        value = getattr(file, one.name)
        if one.name != "path" and value != one.default:
            yield f" {one.name}={str(value).lower() if isinstance(value, bool) else value}"


def _say_written(paths: Sequence[str], console: Console) -> None:
    console.print(f"written to {', '.join(paths)}", style="dim", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
