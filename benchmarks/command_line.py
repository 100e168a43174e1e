"""What benchmarks share at the command line: mistakes in one line, and the command as it is written beside a result."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from splitpoint.errors import SplitpointError

__all__ = ["command_line", "run"]

_PLACES = {"--data-dir": "DIR", "--peer": "PYTHON", "--policies": "DIR", "--traces": "FILE"}
"""Options whose value is a path of the machine that ran it, and what is written instead."""


def command_line() -> str:
    """`python benchmarks/NAME.py` and its options, without paths of the machine that ran it."""
    given: list[str] = []
    for word in sys.argv[1:]:
        option, joined, _ = word.partition("=")
        if given and given[-1] in _PLACES:
            given.append(_PLACES[given[-1]])
        elif joined and option in _PLACES:
            given += [option, _PLACES[option]]
        else:
            given.append(word)
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *given])


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; what its user got wrong is one line on standard error, as of the command `splitpoint`."""
    try:
        main()
    except SplitpointError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
