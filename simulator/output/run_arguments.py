"""Arguments of commands about finished runs: RUN, NAME=RUN, option=value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class UsageError(ValueError):
    """Something that the user can mend; the message is one line."""


@dataclass(frozen=True)
class RunArguments:
    """What was asked for.

    Attributes:
        runs: Paths by the name that each is shown under, in the order given.
        options: Values by name, defaults included.
    """

    runs: Mapping[str, Path]
    options: Mapping[str, str]


def parse(arguments: Sequence[str], defaults: Mapping[str, str]) -> RunArguments:
    """Tell runs from options.

    A folder is shown under its name, a file under its name without the ending, a summary.json under the name of its
    folder; with the folder above where that is not enough to tell them apart.

    Args:
        arguments: RUN, NAME=RUN or option=value.
        defaults: The options that there are, and their values.

    Raises:
        UsageError: No run, two runs of one name, or an option that is not one.
    """
    options, runs = dict(defaults), list[tuple[str, Path]]()
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("-"):
            raise UsageError(f"{argument} is not an option; allowed are: --help, {_shown(defaults)}")
        if not name and equals:
            raise UsageError(f"{argument} has no name in front of the =")
        if name in options and equals:
            if not value:
                raise UsageError(f"{name}= needs a value")
            options[name] = value
        elif Path(argument).exists() or not equals:
            runs.append(("", Path(argument)))
        elif Path(value).exists():
            runs.append((name, Path(value)))
        else:
            raise UsageError(f"{argument}: there is no run {value}, and {name} is not an option ({_shown(defaults)})")
    if not runs:
        raise UsageError("there is no run; see --help")
    return RunArguments(_named(runs), options)


def _shown(options: Mapping[str, str]) -> str:
    return ", ".join(f"{name}=" for name in options)


def _named(runs: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    short = [_parts(path)[-1:] for name, path in runs if not name]
    longer = [_parts(path)[-2:] for name, path in runs if not name]
    num_parts = 2 if len(set(short)) < len(set(longer)) else 1
    # Folders of a sweep are named by all of its overrides, of which only some differ.
    overrides = [set(name[-1].split(",")) for name in short]
    common = set.intersection(*overrides) if len(overrides) > 1 and num_parts == 1 else set[str]()
    found: dict[str, Path] = {}
    for name, path in runs:
        own = [part for part in _parts(path)[-1].split(",") if part not in common]
        shown = name or ",".join(own if num_parts == 1 else ["/".join(_parts(path)[-2:])]) or _parts(path)[-1]
        if shown in found:
            raise UsageError(f"two runs are named {shown}: give them names, NAME=RUN")
        found[shown] = path
    return found


def _parts(path: Path) -> tuple[str, ...]:
    whole = path.resolve()
    if whole.is_dir():
        return whole.parts
    return whole.parent.parts if whole.name == "summary.json" else whole.with_suffix("").parts
