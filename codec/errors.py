"""The error of a payload that does not decode; it names the field of the message."""

from __future__ import annotations

from ..errors import DataError

__all__ = ["PayloadError"]


class PayloadError(DataError):
    """A payload that cannot be coded or decoded. `field` is its path in the request, e.g. `tokens.scale`."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field
        self.problem = problem
