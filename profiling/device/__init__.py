"""The measured machine."""
