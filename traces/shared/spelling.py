"""The nearest name for a misspelt one."""

from collections.abc import Iterable


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return "did you mean NAME? " for the allowed name that is most alike, empty if none is.

    Of dotted names, one whose last part equals the given name counts as alike.
    """
    from difflib import get_close_matches  # only errors need it

    names = {other.lstrip("-"): other for other in allowed}  # the dashes of two options make them no more alike
    plain = name.lstrip("-")
    last = plain.rpartition(".")[2]
    alike = get_close_matches(plain, names, n=1) or [other for other in names if other.rpartition(".")[2] == last]
    return f"did you mean {names[alike[0]]}? " if alike else ""
