"""Recordings against predictions.

Traces are replayed with recorded times and simulated with predicted ones.
"""
