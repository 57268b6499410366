"""Search for the cheapest deployment within an SLO."""
