"""Event time: tumbling windows, the watermark, and what is late. The same for every stage that reads a partition.

Stream time of a partition (its clock) is the largest timestamp seen in it so far. The watermark is the clock minus the
grace. A row is late when its window had ended, grace included, before the row arrived. All of this is a function of the
partition's log alone, so every reader and every replay judges alike, whatever its chunk borders are.

A partition without events would hold time back, so time can also be moved on by a watermark record in the log itself:
a record without value whose Kafka timestamp is the new stream time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.reasons import FUTURE_MAX_MS

WATERMARK_KEY = b"watermark"
"""Key of a record without value: 'stream time of this partition is at least the timestamp of this record'."""

Millis = npt.NDArray[np.int64]


def ahead(timestamps_ms: Millis, record_times_ms: Millis) -> npt.NDArray[np.bool_]:
    """Which events carry a time more than an hour after their arrival: such a clock must not close windows.

    The arrival is the timestamp of the Kafka record; where it is missing (negative), nothing can be said. Worker and
    sink both ask here: the worker dead-letters these events (reason `clock`; with tenant and source of the event, and
    the arrival as `failed_at`, as for every broken record), the sink does not load them, and neither lets them move
    stream time.
    """
    return (record_times_ms >= 0) & (timestamps_ms > record_times_ms + FUTURE_MAX_MS)


def bounded(timestamps_ms: Millis, record_times_ms: Millis) -> Millis:
    """To what time each event moves the clock: its own, but never past its arrival in Kafka.

    So a device whose clock is some minutes fast has its events counted in their own window, and closes nobody's.
    """
    return np.where(record_times_ms >= 0, np.minimum(timestamps_ms, record_times_ms), timestamps_ms)


@dataclass(frozen=True)
class Windows:
    """Tumbling windows of `window_ms` that take events until `grace_ms` after their end."""

    window_ms: int
    grace_ms: int

    def start(self, timestamps: Millis) -> Millis:
        """Start of the window of each timestamp, in milliseconds since 1970."""
        return timestamps // self.window_ms * self.window_ms

    def closed_before(self, clock: int) -> int:
        """Windows that start before the returned time are closed at stream time `clock`: nothing can enter them."""
        return (clock - self.grace_ms) // self.window_ms * self.window_ms

    def judge(
        self, timestamps: Millis, clock: int, advances: Millis | None = None
    ) -> tuple[npt.NDArray[np.bool_], Millis, int]:
        """Judges rows in the order of the log, starting at stream time `clock`.

        Returns (late, clock at the arrival of each row, clock after the last). A row is late when its window was
        closed by the rows before it. `advances` are the times to which the rows move the clock (see `bounded`).
        """
        if not len(timestamps):
            return np.zeros(0, np.bool_), timestamps, clock
        after = np.maximum(np.maximum.accumulate(timestamps if advances is None else advances), clock)
        before = np.concatenate((np.array([clock], np.int64), after[:-1]))
        closed = (before - self.grace_ms) // self.window_ms * self.window_ms
        return timestamps < closed, before, int(after[-1])
