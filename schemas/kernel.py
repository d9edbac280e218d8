"""Loops over columns, compiled to machine code by numba when they are first called and kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numba

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compiles a function of arrays and numbers; it releases the GIL, and must not fail but tell.

    An index outside an array is not noticed in a kernel: who calls one gives arrays that are large enough.
    """
    try:
        compiled: F = numba.njit(function, cache=True, nogil=True)
    except RuntimeError:  # no directory that may be written to: compiled again by each process
        compiled = numba.njit(function, nogil=True)
    return compiled
