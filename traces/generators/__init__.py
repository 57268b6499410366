"""Generators of requests."""
