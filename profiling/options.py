"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from profiling.device.environment import CPU, CUDA

Command = TypeVar("Command", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
tables = click.argument("tables", type=PATH)
overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
run_on = click.option("--on", type=click.Choice((CUDA, CPU)), default=CUDA, show_default=True, help="Where to run.")
max_tokens = click.option("--max-tokens", type=int, help="Largest number of tokens.  [default: the model's maximum]")
attention_from = click.option(
    "--attention-from",
    metavar="DEVICE",
    help="Device in TABLES whose attention fit is transferred to devices with too few attention rows.",
)


def output(text: str) -> Callable[[Command], Command]:
    """Return the option --output, which is required."""
    return click.option("--output", type=PATH, required=True, help=text)
