"""Measurement of a front end: the API server of vLLM."""
