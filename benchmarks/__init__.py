"""Speed and memory of the simulator."""
