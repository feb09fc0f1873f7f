"""The three kinds of failure that Slipway tells apart. Each message is one sentence for the user."""

from __future__ import annotations

__all__ = ["NotFound", "SlipwayError", "Unavailable", "UserError"]


class SlipwayError(Exception):
    """A failure that Slipway can explain: one sentence that names the thing, the rule and the remedy.

    :param code: the `error_code` of the service that refused, where one did.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class UserError(SlipwayError):
    """The request is wrong, and would be wrong again: never retried."""


class NotFound(UserError):
    """What the request names does not exist."""


class Unavailable(SlipwayError):
    """A service is away, throttling or broken for now: retried with backoff."""
