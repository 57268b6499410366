"""Checks, while a run goes on and behind it, that nothing is lost and that times are in order."""
