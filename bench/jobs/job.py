"""What bench.trial tells a job by its environment, and what the job tells it back. Needs nothing but Python."""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
from pathlib import Path

BOOTSTRAP = os.environ.get("BENCH_BOOTSTRAP", "")
INPUT = os.environ.get("BENCH_INPUT", "")
OUTPUT = os.environ.get("BENCH_OUTPUT", "")
DIRECTORY = Path(os.environ.get("BENCH_DIR", "."))
WINDOW_MS = int(os.environ.get("BENCH_WINDOW_MS", "60000"))
GRACE_MS = int(os.environ.get("BENCH_GRACE_MS", "10000"))
SNAPSHOT_EVERY_MS = int(os.environ.get("BENCH_SNAPSHOT_EVERY_MS", "1000"))
EVENTS = int(os.environ.get("BENCH_EVENTS", "0"))

TYPES = ("play", "pause", "skip", "like", "share")
ROW = struct.Struct(">6q")
"""Value of a result: counts in the order of TYPES, sum of ms_played. Its key: `window/track` or `window/track/part`."""

LIBRDKAFKA = {"fetch.queue.backoff.ms": 5, "queued.min.messages": 1_000_000}
"""Without these two librdkafka fetches a tenth as fast."""

_TELL_EVERY_S = 0.05
_told = [0.0]


GATE = os.environ.get("BENCH_GATE")
"""A file that several processes wait for, so that none begins before all have their share. Empty: they just begin."""
_passed = threading.Event()


def wait_at_gate() -> None:
    """Says that this process has something to read, and waits until it may."""
    if GATE is not None and not _passed.is_set():
        tell(0)
        while not Path(GATE).exists():
            time.sleep(0.02)
        _passed.set()


def tell(consumed: int, batches: int = 0) -> None:
    """Prints `consumed COUNT UNIX_SECONDS BATCHES`, at most 20 times a second."""
    now = time.time()
    if now - _told[0] >= _TELL_EVERY_S or consumed >= EVENTS:
        _told[0] = now
        sys.stdout.write(f"consumed {consumed} {now:.3f} {batches}\n")
        sys.stdout.flush()
