"""Importers of published measurements into this project's tables."""
