"""Keep freed memory in the process: pages given back and asked for again cost more than most of what is done in them.

By default glibc returns arrays of some hundred kilobytes to the system, and a request's would be new pages every
time: 136 page faults, 0.3 ms, for one payload of 50 KB.
"""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_KEPT_BYTES = 64 << 20
_LARGEST_KEPT_BYTES = 32 << 20


def keep_freed_memory() -> bool:
    """For this process, from now on: whether the C library could be told (glibc can)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES) and mallopt(_TRIM_THRESHOLD, _KEPT_BYTES))
