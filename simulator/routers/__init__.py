"""Routing policies: one file each, chosen by `_target_`."""
