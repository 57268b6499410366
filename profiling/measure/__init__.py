"""The harness: measures the operators of a model on this machine."""
