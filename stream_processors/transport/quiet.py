"""Keeps the clients' logs short: during a broker outage aiokafka writes 70 lines a second that all say the same."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

EVERY_S = 30.0
_LIBRARIES = ("aiokafka", "faust", "mode")


class Throttle(logging.Filter):
    """Lets a message of one template pass once in `every_s`; the next one tells how many were left out."""

    def __init__(self, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s, self._clock = every_s, clock
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        key, now = (record.name, str(record.msg)), self._clock()
        told_at, left_out = self._told.get(key, (float("-inf"), 0))
        if now - told_at < self._every_s:
            self._told[key] = (told_at, left_out + 1)
            return False
        if len(self._told) > 1_000:  # messages that are not templates
            self._told.clear()
        self._told[key] = (now, 0)
        if left_out:
            record.msg = f"{record.msg} ({left_out} more like this were left out)"
        return True


_throttle = Throttle()


def install() -> None:
    """Puts the throttle on every logger of the libraries that exists; each has one of its own, by module."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _LIBRARIES:
            logging.getLogger(name).addFilter(_throttle)  # a second time changes nothing
