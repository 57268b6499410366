"""Shared code: atomic files, JSON, signals, exit statuses, figure style, value checks."""
