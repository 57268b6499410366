"""Recordings against predictions: traces replayed with recorded times and simulated with predicted ones."""
