"""How long an iteration takes: one file per model of it."""
