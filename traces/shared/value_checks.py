"""Checks of values that users give.

Each raises ValueError with one line that names the value.
"""

import math
from collections.abc import Collection, Sequence
from itertools import pairwise


def number(name: str, value: object, low: float, high: float, also: str = "") -> None:
    """Check that a value is a number from `low` to `high`.

    `also` names other allowed values, for the message.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        limits = " to ".join(f"{limit:g}".replace("e-0", "e-").replace("e+0", "e") for limit in (low, high))
        raise ValueError(f"{name} must be a number from {limits}{also}, got {value!r}")


def positive(name: str, value: object) -> None:
    """Check a size or rate: a number from 1e-6 to 1e9."""
    number(name, value, 1e-6, 1e9)


def integer(name: str, value: object, low: int, high: int) -> None:
    """Check that a value is an integer from `low` to `high`."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}, got {value!r}")


def text(name: str, value: object) -> None:
    """Check that a value is a non-empty string."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text, got {value!r}")


def flag(name: str, value: object) -> None:
    """Check that a value is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")


def choice(name: str, value: object, allowed: Collection[str]) -> None:
    """Check that a value is one of a few names."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")


def quantile_levels(levels: Sequence[float] | None, count: int) -> None:
    """Check the levels of `count` quantiles: increasing from 0 to 1.

    None is allowed too.
    """
    if levels is None:
        return
    if len(levels) != count or levels[0] != 0 or levels[-1] != 1 or any(high <= low for low, high in pairwise(levels)):
        raise ValueError(f"levels must be {count} numbers, one for each quantile, increasing from 0 to 1")


def is_finite(value: object) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
