"""Calibration of iteration times from measurements."""

import traces.shared.interruption  # noqa: F401  # before slow imports
