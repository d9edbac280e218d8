"""What a worker has freed is kept for the next batches, and given back now and then."""

from __future__ import annotations

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
