"""A small torch serving engine that executes the simulator's scheduling policies in real time."""
