"""How fast the simulator is, as ratios within one run."""
