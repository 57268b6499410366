"""Code that all commands share: atomic files, JSON, signals, exit statuses, figure style, value checks."""
