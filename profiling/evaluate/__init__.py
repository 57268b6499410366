"""Errors of fitted profiles."""
