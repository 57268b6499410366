"""Number formats of weights and of the KV cache."""

HALF_BYTES = 2
# Bytes per value. The scales of 4-bit floats count, one byte per 16 or 32 values; those of other formats are left out:
# at most 3 % (a half-precision scale per 128 int4 values). fp8_block has a scale per 128 x 128 weights.
_BYTES = {
    "fp16": 2,
    "bf16": 2,
    "fp8": 1,
    "fp8_block": 1,
    "int8": 1,
    "int4": 0.5,
    "nvfp4": 0.5 + 1 / 16,
    "mxfp4": 0.5 + 1 / 32,
}
HALF = ("fp16", "bf16")
WEIGHT_DTYPES = tuple(_BYTES)
KV_DTYPES = ("fp16", "bf16", "fp8", "int8")


def bytes_per_value(dtype: str) -> float:
    """Return the bytes of one value."""
    return _BYTES[dtype]
