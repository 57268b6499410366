"""Flat arrays of floats that grow."""

from array import array


def zeros(num_values: int) -> "array[float]":
    """Return float64 zeros."""
    return array("d", [0.0]) * num_values


def doubled(values: "array[float]") -> "array[float]":
    """Return a copy with as many zeros behind."""
    longer = zeros(2 * len(values))
    memoryview(longer)[: len(values)] = memoryview(values)
    return longer
