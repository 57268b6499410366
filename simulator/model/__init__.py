"""The model, the GPUs and the machines, and how one is laid out on the other."""
