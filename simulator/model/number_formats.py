"""Formats of weights and of cached keys and values."""

HALF_BYTES = 2
# Bytes of a value. Scales of quantised weights are left out; they are 3 % at most (a half per 128 values of int4).
_BYTES = {"fp16": 2, "bf16": 2, "fp8": 1, "int8": 1, "int4": 0.5}
HALF = ("fp16", "bf16")
WEIGHT_DTYPES = tuple(_BYTES)
KV_DTYPES = ("fp16", "bf16", "fp8", "int8")


def bytes_per_value(dtype: str) -> float:
    """Bytes of one value."""
    return _BYTES[dtype]


def require_dtype(value: object, name: str, allowed: tuple[str, ...]) -> None:
    """Check an attribute.

    Raises:
        ValueError: It is not one of those that are allowed.
    """
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
