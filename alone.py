"""One process at a time, by a lock on a file, which ends with whoever holds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import DataError

__all__ = ["alone"]


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Whether no other process holds `path` within. The file and its folder are made; DataError where they cannot be.

    The file stays: who takes it away might take the one that another process has made meanwhile.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        mine = False
    except OSError as error:
        raise DataError(f"cannot write to {path.parent}: {error.strerror or error}") from error
    else:
        mine = True
    try:
        yield mine
    finally:
        lock.release()
