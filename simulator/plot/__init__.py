"""Pictures of what the other commands wrote."""
