"""The error of a payload that cannot be coded or decoded; it names the field of the message."""

from __future__ import annotations

from ..errors import DataError

__all__ = ["PayloadError", "check_within"]


class PayloadError(DataError):
    """A payload that cannot be coded or decoded. `field` is its path in the request, e.g. `tokens.scale`."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field
        self.problem = problem


def check_within(field: str, value: int, low: int, high: int | None) -> None:
    """Raise PayloadError unless low <= value <= high; `high` None: no limit."""
    if value < low or (high is not None and value > high):
        span = f"at least {low}" if high is None else f"in {low}..{high}"
        raise PayloadError(field, f"must be {span}, not {value}")
