"""A worker that fails where it is told to: `python -m tests.faults.failing_worker RECORD POINT:CALL...`.

Each start takes the next point of the list; RECORD remembers how many were taken. At the given call of the point the
worker raises an exception, or, for points that begin with `exit-`, ends at once as by kill -9, after the call. When the
list is used up it is an ordinary worker.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from faust.tables.base import Collection

from stream_processors import __main__ as worker
from stream_processors import merge, outbox, wire

POINTS: dict[str, tuple[Any, str]] = {
    "read": (wire.Wire, "read"),
    "emit": (outbox.Outbox, "emit_rows"),
    "push": (outbox.Outbox, "push"),
    "confirm": (outbox.Outbox, "confirm"),
    "merge": (merge.MergeState, "add"),
    "changelog": (Collection, "send_changelog"),
}


class InjectedError(Exception):
    """What no stage expects."""


def fail_at(point: str, call: int) -> None:
    """Makes the given call of a point fail."""
    ends = point.startswith("exit-")
    owner, name = POINTS[point.removeprefix("exit-")]
    original, calls = getattr(owner, name), 0

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not ends:
            raise InjectedError(f"{point}, call {call}")
        result = original(*args, **kwargs)
        if calls == call:
            os._exit(9)
        return result

    setattr(owner, name, failing)


def main() -> int:
    """Takes the next point and runs the worker."""
    record, points = Path(sys.argv[1]), sys.argv[2:]
    taken = len(record.read_text()) if record.exists() else 0
    if taken < len(points):
        point, _, call = points[taken].partition(":")
        fail_at(point, int(call))
        with record.open("a") as file:
            file.write(".")
    sys.argv = sys.argv[:1]
    return worker.main()


if __name__ == "__main__":
    sys.exit(main())
