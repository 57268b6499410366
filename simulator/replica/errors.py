"""Error of a scheduling policy."""


class PolicyError(ValueError):
    """A policy used a verb wrongly, or changed the replica itself."""
