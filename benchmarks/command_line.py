"""The command that made a result, as it is written beside it: no path of the machine that ran it."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["command_line"]


def command_line() -> str:
    """`python benchmarks/NAME.py` and its options; where the data lay becomes DIR."""
    given = sys.argv[1:]
    for place, option in enumerate(given[:-1]):
        if option == "--data-dir":
            given[place + 1] = "DIR"
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *given])
