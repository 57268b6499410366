"""Calibration of iteration time from measurements."""
