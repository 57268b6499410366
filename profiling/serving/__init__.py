"""A torch serving engine that runs the simulator's policies in real time."""
