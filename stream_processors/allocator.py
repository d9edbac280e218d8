"""Memory that batches have freed is used again by the next: given back, each new buffer costs a page fault per 4 KB.

Once a minute it is given back all the same: what a backlog needed, and gaps that large buffers leave between others.
"""

from __future__ import annotations

import ctypes
import os
import sys

# glibc, malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_MMAP_BYTES, _TRIM_BYTES = 32 << 20, 256 << 20  # 32 MiB is the most that glibc takes
_JEMALLOC = "dirty_decay_ms:10000,muzzy_decay_ms:10000"
"""Polars says half a second, and tells the processes that it starts so through their environment."""


GIVE_BACK_EVERY_S = 60.0


def keep_freed_memory() -> None:
    """Sets up glibc, and jemalloc if polars is not loaded yet; elsewhere than on Linux nothing."""
    if not sys.platform.startswith("linux"):
        return
    os.environ["_RJEM_MALLOC_CONF"] = _JEMALLOC
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _MMAP_BYTES), (_TRIM_THRESHOLD, _TRIM_BYTES)):
            mallopt(name, value)


def give_back() -> None:
    """Gives what is free within glibc's heap back to the system: 10 to 20 ms; elsewhere than on Linux nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)
