"""Replicas behind a router, the requests that arrive there, and faults."""
