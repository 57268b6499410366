"""The machine that is measured."""
