"""Files that are written whole or not at all: what breaks off leaves what was there before."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from .errors import DataError

__all__ = ["check_writable", "whole_file"]


@contextmanager
def whole_file(path: Path, what: str, *, make_folder: bool = True) -> Iterator[Path]:
    """Where to write `path`, a `what`, to: it takes its place once the block has ended well.

    DataError where that or the block meets an OSError, such as a missing folder that is not to be made.
    """
    with _refusals(path, what):
        partial = _partial(path, make_folder)
        partial.touch()
        mode = partial.stat().st_mode
        try:
            yield partial
            # safetensors lets the owner alone read what it writes, whatever the umask says.
            partial.chmod(mode)
            os.replace(partial, path)
        except BaseException:
            # Least of all on a full disk may half a file stay behind.
            with suppress(OSError):
                partial.unlink()
            raise


def check_writable(path: Path, what: str, *, make_folder: bool = True) -> None:
    """Before long work: DataError where `path`, a `what`, could not be written at its end."""
    with _refusals(path, what):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory")
        partial = _partial(path, make_folder)
        partial.open("ab").close()
        partial.unlink()


def _partial(path: Path, make_folder: bool) -> Path:
    if make_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(path.name + ".part")


@contextmanager
def _refusals(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:  # the latter is what safetensors says of a full disk
        why = getattr(error, "strerror", None) or error
        raise DataError(f"cannot write the {what} {path}: {why}") from error
