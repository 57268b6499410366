"""Fits of kernels, links and host overhead to measurements."""
