"""Launches among the arguments of a command of the simulator."""

from collections.abc import Sequence

from simulator.config import ConfigError
from simulator.launch.reading import read_file, read_words

_FILE_KEY = "serve"
_SEPARATOR = "--"


def with_launch(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Replace a launch among the arguments by overrides.

    The launch is a command line after `--`, or that of `serve=FILE`. Other overrides win over those of the launch.

    Args:
        arguments: Arguments of a command of the simulator.

    Returns:
        The arguments, and lines for the user: what the launch stands for, and what is not simulated.

    Raises:
        ConfigError: The launch cannot be read.
    """
    split = arguments.index(_SEPARATOR) if _SEPARATOR in arguments else len(arguments)
    own, words = list(arguments[:split]), list(arguments[split + 1 :])
    files = [argument for argument in own if argument.lstrip("+").startswith(f"{_FILE_KEY}=")]
    if not files and split == len(arguments):
        return own, []
    if len(files) + (split < len(arguments)) > 1:
        raise ConfigError(f"give one launch: a command line after {_SEPARATOR}, or one {_FILE_KEY}=FILE")
    launch = read_file(files[0].partition("=")[2]) if files else read_words(words)
    rest = [argument for argument in own if argument not in files]
    given = {argument.lstrip("+").partition("=")[0] for argument in rest}
    composed = [text for text in launch.overrides("model" in given) if text.partition("=")[0] not in given]
    notes = [f"launch: {' '.join(composed)}"]
    if not given & {"device", "deployment"}:
        notes.append("launch: the command line names no GPU: set device=NAME, or the default is simulated")
    if launch.not_simulated:
        notes.append(f"not simulated: {', '.join(launch.not_simulated)}")
    return [*composed, *rest], notes
