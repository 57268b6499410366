"""`python -m traces`: describe and convert request files, fit generators to them."""

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console

from traces.generators import Conversations
from traces.readers import TraceFile
from traces.shared import command_line
from traces.shared.atomic_files import write_json
from traces.shared.spelling import nearest
from traces.shared.warnings import Warning
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

FILE has any format that the simulator reads (trace=file), plain or gzip; docs/workloads.md lists the formats.

  describe   prints request counts, rates, burstiness and lengths, and plots them
    picture=PNG          default: the name of FILE with .png, in the current folder
    json=FILE            also writes the figures as JSON; default: not written
  convert    writes the simulator's own columns; OUTPUT ends in {", ".join(SUFFIXES)}
  fit        writes trace/NAME.yaml and arrival/NAME.yaml, generators that match FILE, and prints how well they match
    output=FOLDER        default: configs_of_mine
    name=NAME            default: the name of FILE

  num_requests=null      maximum number of valid rows to read
  on_error=error         malformed rows: error | skip (skipped rows are counted and reported)
  max_total_tokens=null  longest prompt and output together; longer requests are left out
  start_s=0              requests that arrive earlier are left out
  duration_s=null        length of the time window that begins at start_s, seconds
  find_sessions=false    group requests that continue earlier ones into sessions
  columns=null           names of the file's columns, such as {{prompt_tokens: n_in, arrival_s: started}}
  output_tokens=null     output tokens of requests for which the file has none
  tokenizer=null         a Hugging Face tokenizer.json, for files that contain text (ShareGPT)

Exit status: 0 on success, 2 for invalid input, 130 if interrupted."""
_COMMAND_KEYS = {"describe": ("picture", "json"), "convert": (), "fit": ("output", "name")}
_READER_KEYS = [field.name for field in fields(TraceFile) if field.name != "path"]


def main() -> None:
    """Run the command line."""
    command_line.run(_main, sys.argv[1:], _one_line, usage=HELP)


def _one_line(error: Exception) -> str:
    return _with_own_keys(command_line.plain_line(error).removeprefix("path: "))


def _with_own_keys(text: str) -> str:
    """Return a text with keys such as trace.columns named as here."""
    return re.sub(rf"\btrace\.(?=(?:{'|'.join(_READER_KEYS)})\b)", "", text)


def _main(arguments: list[str]) -> int:
    if not arguments:
        print(command_line.as_called(HELP))
        return 2
    _run(arguments, Console())
    return 0


def _run(arguments: Sequence[str], console: Console) -> None:
    command, *rest = arguments
    if command not in _COMMAND_KEYS:
        hint = nearest(command, _COMMAND_KEYS)
        raise ValueError(f"{command} is not a command; {hint}allowed are: {', '.join(_COMMAND_KEYS)}")
    paths, options = _parse(rest, (*_COMMAND_KEYS[command], *_READER_KEYS))
    required = ["FILE", "OUTPUT"] if command == "convert" else ["FILE"]
    if len(paths) != len(required):
        raise ValueError(f"{command} needs {' and '.join(required)}, got {' '.join(paths) or 'nothing'}")
    file = TraceFile(paths[0], **{name: value for name, value in options.items() if name in _READER_KEYS})
    outputs = {name: Path(str(value)) for name, value in options.items() if name in _COMMAND_KEYS[command]}
    if command == "convert":
        _convert(file, Path(paths[1]), console)
    elif command == "fit":
        _fit(file, outputs, console)
    else:
        _describe(file, outputs, console)


def _parse(arguments: Sequence[str], keys: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Split arguments into files and key=value options.

    The name of an existing file is never an option.
    """
    paths, options = [], {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or Path(argument).exists():
            paths.append(argument)
        elif name not in keys:
            raise ValueError(f"{name} is not a key; {nearest(name, keys)}allowed are: {', '.join(keys)}")
        else:
            options[name] = value if name in ("tokenizer", "picture", "json", "output", "name") else _parse_value(value)
    return paths, options


def _parse_value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _load(file: TraceFile) -> Trace:
    trace = file.load(np.random.default_rng(0))
    return replace(trace, notes=tuple(Warning(note.kind, _with_own_keys(note.text)) for note in trace.notes))


def _stem(path: str) -> str:
    return Path(path).name.removesuffix(".gz").rpartition(".")[0] or Path(path).name


def _describe(file: TraceFile, outputs: Mapping[str, Path], console: Console) -> None:
    picture = outputs.get("picture", Path(f"{_stem(file.path)}.png"))
    if picture.suffix != ".png":
        raise ValueError(f"picture={picture} must end in .png")
    trace = _load(file)
    figures = describe(trace)
    from traces.tools.drawing import draw  # imports matplotlib, which the other commands do not need

    draw(trace, Path(file.path).name, picture)
    print_description(figures, console)
    written = [str(picture)]
    if "json" in outputs:
        write_json(outputs["json"], figures)
        written.append(str(outputs["json"]))
    _print_written(written, console)


def _convert(file: TraceFile, path: Path, console: Console) -> None:
    if path.exists() and path.samefile(file.path):
        raise ValueError(f"{path} is the file that is read; give the output another name")
    trace = _load(file)
    save(trace, path)
    console.print(f"{len(trace):,} requests", highlight=False)
    for note in trace.notes:
        console.print(f"note: {note.text}", highlight=False, markup=False, soft_wrap=True)
    _print_written([str(path)], console)


def _fit(file: TraceFile, outputs: Mapping[str, Path], console: Console) -> None:
    name = _choice_name(outputs.get("name"), file.path)
    trace = without_steps(_load(file))
    try:
        fitted = fit(trace)
    except ValueError as error:
        raise ValueError(f"{file.path}: {error}") from error
    rows = match(trace, fitted)
    notes = [*(note.text for note in trace.notes), *fitted.notes]
    folder = outputs.get("output", Path("configs_of_mine"))
    comments = [
        f"Fitted to the {len(trace):,} requests of {Path(file.path).name} by",
        f"  python -m traces fit {Path(file.path).name}{''.join(_changed_options(file))}",
        *(f"Note: {note}." for note in notes),
        "Comparison with a generated trace of equal length: statistic, of the trace, generated, error.",
        *("  " + ", ".join(cell for cell in match_cells(row) if cell) for row in rows),
    ]
    paths = write_generators(fitted, folder, name, comments)
    print_match(rows, console)
    for note in notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    _print_written(list(map(str, paths)), console)
    choices = " ".join(f"{path.parent.name}={name}" for path in paths)
    if fitted.arrivals is None and isinstance(fitted.source, Conversations):
        choices += " arrival=sessions"
    command = f"python -m simulator --config-dir {shlex.quote(str(folder))} {choices}"
    console.print(command_line.as_called(command), highlight=False, soft_wrap=True)


def _choice_name(given: Path | None, path: str) -> str:
    """Return the name that chooses the generators on the command line.

    Args:
        given: The name that the user gave; None: derive one from `path`.
        path: The file that the generators are fitted to.

    Raises:
        ValueError: The name is not allowed on the command line, or the simulator ships a choice of that name.
    """
    name = re.sub(r"\W+", "_", _stem(path), flags=re.ASCII) if given is None else str(given)
    if given is None and (not name[0].isalpha() or name in _shipped_choices()):
        name = f"fitted_{name}"
    if not re.fullmatch(r"[A-Za-z]\w*", name, flags=re.ASCII) or name.lower() in ("null", "true", "false"):
        raise ValueError(f"name must be a letter and then letters, digits and _, got {name!r}")
    if name in _shipped_choices():
        raise ValueError(f"name={name} is already a choice of the simulator; give another name")
    return name


def _shipped_choices() -> set[str]:
    """Return the choices of `trace=` and `arrival=` that the simulator ships."""
    spec = find_spec("simulator")
    packages = [Path(location) for location in (spec.submodule_search_locations or [] if spec else [])]
    folders = [folder / "configs" for package in packages for folder in (package, package.parent)]
    return {
        path.stem for folder in folders for group in ("trace", "arrival") for path in (folder / group).glob("*.yaml")
    }


def _changed_options(file: TraceFile) -> Iterator[str]:
    """Yield the options that differ from their defaults, as command-line arguments."""
    for field in fields(file):
        value = getattr(file, field.name)
        if field.name != "path" and value != field.default:
            text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
            yield f" {shlex.quote(f'{field.name}={text}')}"


def _print_written(paths: Sequence[str], console: Console) -> None:
    console.print(f"written to {', '.join(paths)}", style="dim", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
