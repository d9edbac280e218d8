"""How long to wait before the next attempt."""

from __future__ import annotations

import email.utils
import math
from collections.abc import Callable

BASE_S, CAP_S = 1.0, 60.0
REFUSED_S = 300.0
"""After an answer that another attempt does not change: an unknown key, a wrong address."""
RETRY_AFTER_MAX_S = 3_600.0


def backoff_s(failures: int, random: Callable[[], float]) -> float:
    """Exponential backoff with full jitter after so many failures in a row (Brooker, AWS Architecture Blog, 2015)."""
    return random() * min(CAP_S, BASE_S * 2.0 ** min(failures - 1, 16))


def refused_s(random: Callable[[], float]) -> float:
    """From half of REFUSED_S to all of it."""
    return REFUSED_S * (0.5 + random() / 2)


def retry_after_s(header: str | None, now_ms: int) -> float:
    """The seconds of a Retry-After header (RFC 9110: a number or a date), at most an hour; 0 without one."""
    if not header:
        return 0.0
    try:
        wait_s = float(header)
    except ValueError:
        try:
            wait_s = email.utils.parsedate_to_datetime(header).timestamp() - now_ms / 1000
        except ValueError:
            return 0.0
    return 0.0 if math.isnan(wait_s) else min(max(wait_s, 0.0), RETRY_AFTER_MAX_S)
