"""Readers of request files: rows as they stand in the file, and what is wrong with them."""
