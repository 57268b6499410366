"""Calibration of iteration time from measurements."""

import traces.shared.interruption  # noqa: F401  # before anything that takes long to import
