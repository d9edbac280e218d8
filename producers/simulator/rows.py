"""The simulator's events before they are told: a row of numbers each, and how rows are moved in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

ROW = np.dtype(
    [
        ("arrival", "i8"),  # when it reaches the door, ms
        ("at", "i8"),  # when it happened, ms
        ("number", "i8"),  # makes the event_id
        ("listener", "i4"),
        ("session", "i4"),  # of the listener
        ("track", "i4"),
        ("position", "i4"),
        ("heard", "i4"),  # -1: not told
        ("skew", "i4"),  # what the device's clock is fast, ms
        ("kind", "i1"),
        ("reason_start", "i1"),
        ("reason_end", "i1"),
        ("shuffle", "?"),
        ("offline", "?"),
        ("private", "?"),
        ("fault", "i1"),  # 0: none
    ],
    align=True,
)
Rows = npt.NDArray[np.void]

_WORDS = ROW.itemsize // 8


def taken(rows: Rows, index: npt.NDArray[Any]) -> Rows:
    """The rows at these places, or where this is true; as words, because numpy moves records field by field."""
    places = np.flatnonzero(index) if index.dtype == np.bool_ else index
    found: Rows = _words(rows).take(places, axis=0).view(ROW).ravel()
    return found


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows one behind the other, copied."""
    found: Rows = np.concatenate([_words(part) for part in parts]).view(ROW).ravel()
    return found


def _words(rows: Rows) -> npt.NDArray[np.int64]:
    return rows.view(np.int64).reshape(len(rows), _WORDS)
