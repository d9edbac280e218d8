"""Loops over columns, compiled to machine code by numba when they are first called and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numba

F = TypeVar("F", bound=Callable[..., object])

_HERE = Path(__file__).parent
_HOME = _HERE.parent
_ROOMS = (_HERE, _HOME / "stream_processors", _HOME / "producers", _HOME / "producers" / "simulator")


def _stamp() -> str:
    """Changes with every file that may hold kernels."""
    files = sorted(file for room in _ROOMS for file in room.glob("*.py"))
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=8).hexdigest()


CACHE_DIR = _HERE / "__pycache__" / f"kernels-{_stamp()}"
"""Where the machine code is: another release has another directory."""

# numba looks at the file of a kernel alone, and would keep an old copy of what it calls in another
numba.config.CACHE_DIR = str(CACHE_DIR)  # type: ignore[attr-defined]


def kernel(function: F) -> F:
    """Compiles a function of arrays and numbers; it releases the GIL, and must not fail but tell.

    An index outside an array is not noticed in a kernel: who calls one gives arrays that are large enough.
    """
    try:
        compiled: F = numba.njit(function, cache=True, nogil=True)
    except RuntimeError:  # no directory that may be written to: compiled again by each process
        compiled = numba.njit(function, nogil=True)
    return compiled


def part(function: F) -> F:
    """Compiles a function into each kernel that calls it: for those with many arguments, which a call would copy."""
    compiled: F = numba.njit(function, nogil=True, forceinline=True)
    return compiled
