"""Runs a stage whose wall clock jumps: `python -m tests.faults.jumping_clock FILE MODULE`.

FILE holds the seconds by which `time.time` is wrong, and may change at any moment.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

_EVERY_S = 0.1


def jump(file: Path) -> None:
    """Makes the wall clock of this process wrong by what the file says."""
    right_ns, read_at, wrong_s = time.time_ns, float("-inf"), 0

    def time_ns() -> int:
        nonlocal read_at, wrong_s
        if time.monotonic() - read_at > _EVERY_S:
            read_at, wrong_s = time.monotonic(), int(file.read_text() or wrong_s)
        return right_ns() + wrong_s * 1_000_000_000

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9


if __name__ == "__main__":
    jump(Path(sys.argv[1]))
    module = sys.argv[2]
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
