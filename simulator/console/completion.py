"""Completion of words such as `scheduler=vllm,sarathi` in bash, zsh and fish.

Click's scripts put a space after each word, cut it at a comma, and complete no file after `=`.
"""

import os
from pathlib import Path

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)


def _script(shell: str) -> str:
    """Return the script of a shell; Click fills in names."""
    return (Path(__file__).parent / "scripts" / f"complete.{shell}").read_text(encoding="utf-8")


@add_completion_class
class BashOverrides(BashComplete):
    """Bash, which takes what follows `=` for a word of its own."""

    source_template = _script("bash")

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the complete words of the line, and the incomplete one."""
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)[1:]
        return (words, "") if line[-1:].isspace() or not words else (words[:-1], words[-1])

    def get_completions(self, args: list[str], incomplete: str) -> "list[CompletionItem[str]]":
        """Return completions, without what bash holds to be words of their own."""
        items = super().get_completions(args, incomplete)
        start = len(incomplete.rpartition("=")[0]) + 1 if "=" in incomplete else 0
        return [CompletionItem(item.value[start:], item.type, item.help) for item in items]


@add_completion_class
class ZshOverrides(ZshComplete):
    """Zsh: no space after `=` and `.`, and files after `=`."""

    source_template = _script("zsh")


@add_completion_class
class FishOverrides(FishComplete):
    """Fish: commas within a word, and files after `=`."""

    source_template = _script("fish")
