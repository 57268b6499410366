"""Error of a scheduling policy."""


class PolicyError(ValueError):
    """A policy decided something impossible, or changed a replica other than by its verbs."""
