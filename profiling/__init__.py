"""Calibration of iteration time from measurements."""

import traces.interruption  # noqa: F401  # before anything that takes long to import
