"""Checks of values that users give.

Each raises ValueError with one line: the name, what is allowed, and the value. `optional` allows None too, "null".
"""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

Check = Callable[..., None]
_LARGEST = sys.float_info.max

MOST = 2**31 - 1  # a 32-bit integer


def number(
    name: str,
    value: Any,
    low: float,
    high: float = math.inf,
    also: str = "",
    *,
    excluding: str = "",
    optional: bool = False,
) -> None:
    """Check that a value is a finite number within limits.

    Args:
        name: Name of the value.
        value: The value.
        low: Smallest allowed number.
        high: Largest allowed number; infinite: any finite one.
        also: Other allowed values, for the message.
        excluding: "low", "high" or "both": that limit itself is not allowed.
        optional: Whether None is allowed.
    """
    above, below = excluding in ("low", "both"), excluding in ("high", "both")
    is_excluded = (above and value == low) or (below and value == high)
    if _is(int | float, value) and low <= value <= min(high, _LARGEST) and not is_excluded:
        return
    first, last = (f"{limit:g}".replace("e-0", "e-").replace("e+0", "e") for limit in (low, high))
    start = f"above {first}" if above else f"of at least {first}"
    if high == math.inf:
        allowed = f"a finite number {start}"
    elif above or below:
        allowed = f"a number {start} and {'below' if below else 'at most'} {last}"
    else:
        allowed = f"a number from {first} to {last}"
    _refuse(name, value, allowed + also, optional)


def positive(name: str, value: Any, *, optional: bool = False) -> None:
    """Check a size or rate: a number from 1e-6 to 1e9."""
    number(name, value, 1e-6, 1e9, optional=optional)


def integer(name: str, value: Any, low: int, high: int | None = None, *, optional: bool = False) -> None:
    """Check that a value is an integer from `low` to `high`."""
    if not (_is(int, value) and low <= value and (high is None or value <= high)):
        limits = f"of at least {low}" if high is None else f"from {low} to {high}"
        if high == MOST:
            limits = f"of at least {low} and below 2^31"
        _refuse(name, value, f"an integer {limits}", optional)


def text(name: str, value: Any, what: str = "a text", *, optional: bool = False) -> None:
    """Check that a value is a non-empty string; `what` it stands for."""
    if not isinstance(value, str) or not value:
        _refuse(name, value, what, optional)


def flag(name: str, value: Any, *, optional: bool = False) -> None:
    """Check that a value is true or false."""
    if not isinstance(value, bool):
        _refuse(name, value, "true, false" if optional else "true or false", optional)


def choice(name: str, value: Any, allowed: Iterable[str], *, optional: bool = False) -> None:
    """Check that a value is one of a few names."""
    names = tuple(allowed)
    if value not in names and not (optional and value is None):
        raise ValueError(f"{name} must be one of {', '.join((*names, *(['null'] if optional else [])))}; got {value!r}")


def instance(name: str, value: Any, kind: type | tuple[type, ...], what: str, *, optional: bool = False) -> None:
    """Check that a value is of a class; `what` it stands for."""
    if not isinstance(value, kind):
        _refuse(name, value, what, optional)


def sequence(
    name: str,
    values: object,
    what: str,
    check: Check | None = None,
    *limits: Any,
    least: int = 0,
    most: float = math.inf,
    optional: bool = False,
) -> None:
    """Check that a value is a list, and each of its entries.

    Args:
        name: Name of the list.
        values: The list.
        what: What is allowed, for the message.
        check: Called with the name and value of each entry, and `limits`; None: entries are not checked.
        *limits: More arguments of `check`.
        least: Smallest number of entries.
        most: Largest number of entries.
        optional: Whether None is allowed.
    """
    if isinstance(values, str) or not isinstance(values, Sequence) or not least <= len(values) <= most:
        _refuse(name, values, what, optional)
        return
    if check is not None:
        for index, value in enumerate(values):
            check(f"{name}[{index}]", value, *limits)


def mapping(
    name: str, values: object, what: str, check: Check, *limits: Any, least: int = 0, optional: bool = False
) -> None:
    """Check that a value is a mapping, and each of its entries.

    Arguments are those of `sequence`.
    """
    if not isinstance(values, Mapping) or len(values) < least:
        _refuse(name, values, what, optional)
        return
    for key, value in values.items():
        check(f"{name}.{key}", value, *limits)


def increasing(name: str, values: Sequence[float]) -> None:
    """Check that each number is above the one before."""
    if any(high <= low for low, high in pairwise(values)):
        raise ValueError(f"{name} must increase, got {list(values)}")


def each(check: Check, owner: object, names: Iterable[str], *limits: Any, **options: Any) -> None:
    """Check several attributes of an object in the same way."""
    for name in names:
        check(name, getattr(owner, name), *limits, **options)


def quantile_levels(levels: Sequence[float] | None, count: int) -> None:
    """Check the levels of `count` quantiles: increasing from 0 to 1.

    None is allowed too.
    """
    if levels is None:
        return
    if len(levels) != count or levels[0] != 0 or levels[-1] != 1 or any(high <= low for low, high in pairwise(levels)):
        raise ValueError(f"levels must be {count} numbers, one for each quantile, increasing from 0 to 1")


def is_finite(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return _is(int | float, value) and math.isfinite(value)


def _is(kind: Any, value: object) -> bool:
    """Return whether a value is of a kind, and not a bool."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _refuse(name: str, value: Any, allowed: str, optional: bool) -> None:
    if not (optional and value is None):
        raise ValueError(f"{name} must be {allowed}{' or null' if optional else ''}, got {value!r}")
