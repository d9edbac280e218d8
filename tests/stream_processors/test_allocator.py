"""What a worker has freed is kept for the next batches, and given back now and then."""

from __future__ import annotations

import os
import subprocess
import sys

_FILL = """
import stream_processors
from stream_processors.allocator import give_back
import psutil

def rss_mb():
    return psutil.Process().memory_info().rss >> 20

large, small = [], []
for _ in range(200):
    large.append(b"x" * (1 << 20))
    small.append(b"x" * 4096)
large.clear()
before = rss_mb()
give_back()
print(before - rss_mb())
"""


def test_gaps_between_small_blocks_are_given_back() -> None:
    """200 MB that were freed between blocks that stay are in use until `give_back`, and not after it."""
    told = subprocess.run([sys.executable, "-c", _FILL], capture_output=True, text=True, check=True, timeout=60)
    assert int(told.stdout) > 150


_TELL = """
import os
import stream_processors
os.environ["_RJEM_MALLOC_CONF"] += ",stats_print:true"
import polars
polars.Series([1]).sum()
"""


def test_polars_memory_is_kept_whatever_started_the_worker() -> None:
    """A process that has loaded polars hands down polars' own half a second: ten seconds hold all the same."""
    environment = {**os.environ, "_RJEM_MALLOC_CONF": "dirty_decay_ms:500,muzzy_decay_ms:1000"}
    command = [sys.executable, "-c", _TELL]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    assert "opt.dirty_decay_ms: 10000 " in told.stderr
