"""Errors of fits on held-out and published measurements."""
