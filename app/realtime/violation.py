"""What is raised when it is in doubt whose an object is."""

from __future__ import annotations


class IsolationViolation(Exception):
    """Something that a manager was to be given is another's, or may be. It was not given.

    Counted and logged where it was found. The message names nobody, as it may reach the user who asked.

    Attributes:
        key: user key that was refused; empty for a client that has not said who it is.
        net: what found it: `claim` (another manager's object), `fresh` (an object that was given out before) or
            `token` (a token that is not this key's).
    """

    def __init__(self, key: str, net: str) -> None:
        """Keep who was refused, and by what."""
        super().__init__("isolation is in doubt, so this was refused; the log of the gateway says more")
        self.key = key
        self.net = net
