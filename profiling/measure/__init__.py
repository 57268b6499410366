"""The harness: measures the operators of a model on the GPU at hand."""
