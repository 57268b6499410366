"""Published measurements in the format of our own."""
