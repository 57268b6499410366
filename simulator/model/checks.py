"""Checks of the values of components."""

from collections.abc import Sequence


def require_positive(owner: object, names: Sequence[str]) -> None:
    """Check attributes that are sizes or rates.

    Raises:
        ValueError: One of them is not a number from 1e-6 to 1e9.
    """
    for name in names:
        value = getattr(owner, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 1e-6 <= value <= 1e9:
            raise ValueError(f"{name} must be a number from 1e-6 to 1e9, got {value!r}")


def require_text(owner: object, name: str) -> None:
    """Check an attribute that is a name.

    Raises:
        ValueError: It is no text, or an empty one.
    """
    value = getattr(owner, name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text, got {value!r}")


def require_flags(owner: object, names: Sequence[str]) -> None:
    """Check attributes that are true or false.

    Raises:
        ValueError: One of them is neither.
    """
    for name in names:
        value = getattr(owner, name)
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, got {value!r}")
