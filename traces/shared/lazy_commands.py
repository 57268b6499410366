"""A Click group whose commands are imported when they are used."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from traces.shared.spelling import nearest


class LazyGroup(click.Group):
    """Commands by name, in the order given.

    Args:
        lazy: Returns each command; called when it is used.
        **options: Those of `click.Group`.
    """

    def __init__(self, *, lazy: Mapping[str, Callable[[], click.Command]], **options: Any) -> None:
        super().__init__(**options, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # of Click's protocol
        """Return the names of all commands."""
        return [*self._lazy, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name.

        Raises:
            click.UsageError: There is none; the message names the nearest.
        """
        if cmd_name in self._lazy:
            return self._lazy[cmd_name]()
        if cmd_name not in self.commands and not ctx.resilient_parsing:
            allowed = self.list_commands(ctx)
            hint = nearest(cmd_name, allowed)
            raise click.UsageError(f"{cmd_name} is not a command; {hint}allowed are: {', '.join(allowed)}")
        return self.commands.get(cmd_name)
