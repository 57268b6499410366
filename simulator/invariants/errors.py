"""The error of a violated invariant."""


class InvariantError(RuntimeError):
    """A violated invariant: no result of the run can be trusted.

    Either the simulator or a policy has a bug.

    Args:
        *parts: Words and values of the message, which are joined by spaces.
    """

    def __init__(self, *parts: object) -> None:
        # `args` keeps the parts: pickling builds the error from them again, and must not repeat the prefix.
        super().__init__(*map(str, parts))

    def __str__(self) -> str:
        return f"invariant violated: {' '.join(self.args)}"
