"""Arguments of commands about finished runs: RUN, NAME=RUN, option=value."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from traces.shared.spelling import nearest


class UsageError(ValueError):
    """Mistake of the user; the message is one line."""


def parse(arguments: Sequence[str], defaults: Mapping[str, str]) -> tuple[dict[str, Path], dict[str, str]]:
    """Parse the arguments into runs and options.

    A folder is shown under its name, a file under its name without the suffix, a summary.json under the name of its
    folder; the parent folder is added where names are not unique.

    Args:
        arguments: RUN, NAME=RUN or option=value.
        defaults: Default values of all options, by name.

    Returns:
        Paths of the runs by display name, in the order given, and values of all options by name.

    Raises:
        UsageError: No run, two runs with the same name, or an unknown option.
    """
    options, runs = dict(defaults), list[tuple[str, Path]]()
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("-"):
            raise UsageError(f"{argument} is not an option; allowed are: --help, {_shown(defaults)}")
        if not name and equals:
            raise UsageError(f"{argument} has no name before the =")
        if name in options and equals:
            if not value:
                raise UsageError(f"{name}= needs a value")
            options[name] = value
        elif Path(argument).exists() or not equals:
            runs.append(("", Path(argument)))
        elif Path(value).exists():
            runs.append((name, Path(value)))
        else:
            shown = f"{nearest(name, defaults)}{_shown(defaults)}"
            raise UsageError(f"{argument}: there is no run {value}, and {name} is not an option ({shown})")
    if not runs:
        raise UsageError("no run is given; see --help")
    return _named(runs), options


def _shown(options: Mapping[str, str]) -> str:
    return ", ".join(f"{name}=" for name in options)


def _named(runs: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    short = [_parts(path)[-1:] for name, path in runs if not name]
    longer = [_parts(path)[-2:] for name, path in runs if not name]
    num_parts = 2 if len(set(short)) < len(set(longer)) else 1
    # Folders of a sweep are named by all their overrides; show those that differ.
    overrides = [set(name[-1].split(",")) for name in short]
    common = set.intersection(*overrides) if len(overrides) > 1 and num_parts == 1 else set[str]()
    named: dict[str, Path] = {}
    for name, path in runs:
        own = [part for part in _parts(path)[-1].split(",") if part not in common]
        shown = name or ",".join(own if num_parts == 1 else ["/".join(_parts(path)[-2:])]) or _parts(path)[-1]
        if shown in named:
            raise UsageError(f"two runs are named {shown}: give them names, NAME=RUN")
        named[shown] = path
    return named


def _parts(path: Path) -> tuple[str, ...]:
    whole = path.resolve()
    if whole.is_dir():
        return whole.parts
    return whole.parent.parts if whole.name == "summary.json" else whole.with_suffix("").parts
