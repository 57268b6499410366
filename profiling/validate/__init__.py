"""Recordings against predictions: a trace replayed with its recorded times, and simulated with predicted ones."""
