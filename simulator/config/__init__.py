"""Hydra configuration: compose it, check it, build the components it names."""
