"""Launches among the arguments of a command of the simulator."""

from collections.abc import Sequence

from simulator.config import ConfigError
from simulator.launch.launch import DERIVED
from simulator.launch.reading import read_file, read_words

_FILE_KEY = "serve"
_SEPARATOR = "--"
# Starts of overrides that a command does not use, by its top-level file in `configs/`.
_UNUSED = {
    "predict": (
        *("cluster.replicas=", "cluster.router="),
        *("kv_cache.num_blocks=", "kv_cache.block_size=", "kv_cache.memory_utilization=", "kv_cache.prefix_caching="),
    ),
    "search": (
        *("parallel.", "cluster.replicas="),
        *("scheduler.max_num_batched_tokens=", "scheduler.token_budget="),
        f'scheduler.max_num_seqs="{DERIVED}',  # from a number of tokens that the search chooses itself
    ),
}
# Overrides of a launch that a command cannot follow, and why.
_REFUSED = {
    "search": {
        "scheduler.enable_chunked_prefill=false": "--no-enable-chunked-prefill: without chunks an iteration must hold "
        "the longest prompt, and a search compares smaller token budgets; leave it out"
    }
}
_CHOOSES_DEVICE = ("search",)


def with_launch(arguments: Sequence[str], config_name: str = "config") -> tuple[list[str], list[str]]:
    """Replace a launch among the arguments by overrides.

    The launch is a command line after `--`, or that of `serve=FILE`. Other overrides win over those of the launch.

    Args:
        arguments: Arguments of a command of the simulator.
        config_name: The command's top-level file in `configs/`. What it does not use of the launch is left out.

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
    asked = [text for text in launch.overrides("model" in given) if text.partition("=")[0] not in given]
    for refused, reason in _REFUSED.get(config_name, {}).items():
        if refused in asked:
            raise ConfigError(reason)
    composed = [text for text in asked if not text.startswith(_UNUSED.get(config_name, ()))]
    notes = [f"launch: {' '.join(composed)}"]
    unused = [text for text in asked if text not in composed and DERIVED not in text]
    if unused:
        notes.append(f"not used by {config_name}: {', '.join(unused)}")
    if config_name not in _CHOOSES_DEVICE and not given & {"device", "deployment"}:
        notes.append("launch: the command line names no GPU: set device=NAME, or the default is simulated")
    if launch.not_simulated:
        notes.append(f"not simulated: {', '.join(launch.not_simulated)}")
    return [*composed, *rest], notes
