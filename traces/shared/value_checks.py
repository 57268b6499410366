"""Checks of values that users give."""

import math


def require_number(name: str, value: object, low: float, high: float) -> None:
    """Check that a value is a number within a range.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        limits = " to ".join(f"{limit:g}".replace("e-0", "e-").replace("e+0", "e") for limit in (low, high))
        raise ValueError(f"{name} must be a number from {limits}, got {value!r}")


def require_integer(name: str, value: object, low: int, high: int) -> None:
    """Check that a value is an integer within a range.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}, got {value!r}")


def is_finite(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
