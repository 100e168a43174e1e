"""The exception tree. Every error a user can cause is a `SplitpointError`; the CLI turns it into one line.

SplitpointError            exit code 1
├── UsageError             2   wrong arguments, unknown names
├── ConfigError            3   a scenario or configuration that does not validate
├── DataError              4   a missing, unreadable or malformed file of data, weights or traces
├── MissingExtra           5   a command needs an optional dependency that is not installed
├── GridError              6   a Decision off the Profile's grid
└── RemoteError            7   the other side refused or cannot be reached
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "ConfigError",
    "DataError",
    "GridError",
    "MissingExtra",
    "RemoteError",
    "SplitpointError",
    "UsageError",
    "did_you_mean",
]


_LISTED = 20


class SplitpointError(Exception):
    """Base of all errors that splitpoint raises on purpose; its text is one clear line."""

    exit_code = 1


class UsageError(SplitpointError):
    exit_code = 2


class ConfigError(SplitpointError):
    exit_code = 3


class DataError(SplitpointError):
    exit_code = 4


class MissingExtra(SplitpointError):  # noqa: N818 - reads as what happened
    """An optional dependency is not installed; the message names the extra that brings it."""

    exit_code = 5

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'splitpoint[{extra}]'")


class GridError(SplitpointError):
    exit_code = 6


class RemoteError(SplitpointError):
    exit_code = 7


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Text that names the nearest of `known` to append to an error, or lists them, of many the first few."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"known: {', '.join(known[:_LISTED])}{', ...' if len(known) > _LISTED else ''}"
