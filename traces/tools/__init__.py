"""What `python -m traces` does: describe, convert, fit."""
