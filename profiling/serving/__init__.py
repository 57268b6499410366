"""A small serving engine on torch: it executes what a scheduler of the simulator decides, in real time."""
