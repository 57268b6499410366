"""What the commands share: Hydra entry point, sweeps, tables on the terminal."""
