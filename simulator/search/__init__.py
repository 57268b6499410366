"""The cheapest deployment within an SLO."""
