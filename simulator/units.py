"""Figures with their units, for people."""


def duration(seconds: float | None) -> str:
    """A time with three digits: "68.7 ms", "3.16 s", "1,480 s"; "-" for None."""
    if seconds is None:
        return "-"
    if 0 < abs(seconds) < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if abs(seconds) < 1000 else f"{seconds:,.0f} s"
