"""What is noted during a simulation. Imports nothing of the simulator."""
