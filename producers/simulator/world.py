"""What listeners are made of and live in: the arrays that the kernels of `listening` read and write."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

PLAY, PAUSE, SKIP, LIKE, SHARE = range(5)
REASONS_START = ("clickrow", "trackdone", "fwdbtn", "playbtn")
REASONS_END = ("trackdone", "fwdbtn", "endplay", "logout")
CLICKED, DONE, FORWARD, RESUMED = range(4)
HEARD, FORWARDED, STOPPED, LEFT = range(4)
NONE = -1

PERSON = np.dtype(
    [
        ("until", "i8"),  # a guest leaves for good; NEVER for the others
        ("online", "i8"),  # when the device has a connection again
        ("random", "u8"),
        ("share", "f4"),  # of the time that is spent listening when activity is usual; 0: a guest, who always does
        ("skips", "f4"),  # as a multiple of what is usual
        ("offline", "f4"),  # share of sessions
        ("skew", "i4"),
        ("sessions", "i4"),
        ("left", "i4"),  # tracks of the session; 0: none is open
        ("country", "i2"),
        ("city", "i2"),
        ("device", "i2"),
        ("version", "i2"),
        ("loves", "i2", (3,)),  # scenes
        ("scene", "i2"),  # of the session
        ("reason", "i1"),
        ("shuffle", "?"),
        ("private", "?"),
    ],
    align=True,
)
_HABITS = ("tracks", "session_ms", "skip", "resume", "shuffle", "reported", "focus", "offline_ms", "private")
_PER_MS_OF_LISTENING = ("pause", "seek", "like", "share")
HABITS = np.dtype([(name, "f8") for name in (*_HABITS, *_PER_MS_OF_LISTENING)])
Person = Any
"""A row of PERSON, which numba reads and writes by attribute."""

NEVER = np.iinfo(np.int64).max
SKIP_MS = (800.0, 5_000.0, 10_000.0, 30_000.0)
SKIP_SHARES = (0.0, 0.241 / 0.486, 0.290 / 0.486, 0.351 / 0.486)
"""Of the tracks that are skipped, so many are skipped by then, the rest evenly until the end (Lamere 2014)."""

SKIP_OF_LOVED, SKIP_OF_OTHER = 0.9, 1.3
ACT_ON_LOVED, ACT_ON_OTHER = 1.2, 0.4
"""Multiples for tracks of a scene that a listener loves, and for others: 1 on average when three of four are loved."""


class World(NamedTuple):
    """What all listeners share. `fresh_running` and `gone` follow the time."""

    habits: npt.NDArray[np.void]
    duration_ms: npt.NDArray[np.int32]
    scene: npt.NDArray[np.int16]
    by_scene: npt.NDArray[np.int32]
    running: npt.NDArray[np.float64]
    guide: npt.NDArray[np.int32]
    scene_shares: npt.NDArray[np.float64]
    fresh: npt.NDArray[np.int32]
    fresh_running: npt.NDArray[np.float64]
    gone: npt.NDArray[np.bool_]
    curves: npt.NDArray[np.float32]
    curves_start_ms: int
    curve_peaks: npt.NDArray[np.float32]
    surges: npt.NDArray[np.float64]
    """Skip surges: rows of start, end, country, multiple."""
