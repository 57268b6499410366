"""Fit kernels, links and host overhead to measurements."""
