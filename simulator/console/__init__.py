"""The command `llmsim`: all commands of the package behind one name.

Nothing here imports NumPy, Hydra or matplotlib: help, version and completion answer at once.
"""
