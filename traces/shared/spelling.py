"""The nearest name for a misspelt one, and nouns by number."""

from collections.abc import Iterable


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return "did you mean NAME? ", empty if no name is alike.

    A dotted name below the same section whose last part equals the given name counts as alike.
    """
    from difflib import get_close_matches  # only errors need it

    section, dot, last = name.lstrip("-").rpartition(".")
    # Neither the dashes of two options nor their common section make them more alike.
    names = {
        other.lstrip("-").removeprefix(section + dot): other
        for other in allowed
        if other.lstrip("-").startswith(section + dot)
    }
    alike = get_close_matches(last, names, n=1) or [other for other in names if other.rpartition(".")[2] == last]
    return f"did you mean {names[alike[0]]}? " if alike else ""


def counted(count: int, noun: str) -> str:
    """Return a number and its noun, as in "2,000 requests"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
