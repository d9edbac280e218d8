"""Open windows write what is new since the last snapshot, and come back from what was written."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from schemas.event_time import Windows
from stream_processors import frames, windows
from stream_processors.codes import marked
from stream_processors.windows import OpenWindows
from tests.stream_processors.logs import START_MS, decoded, logs

CLOCKWORK = Windows(60_000, 10_000)
EVENT = {
    "event_id": "e1",
    "event_type": "play",
    "user_id": "ann",
    "track_id": "t1",
    "timestamp": START_MS,
    "platform": "custom",
    "tenant": "default",
    "source": "replay",
    "received_at": START_MS,
}


def take(state: OpenWindows, entries: list[Any]) -> None:
    frame = marked(decoded(entries, 0).frame)
    times = frame["timestamp"].dt.epoch("ms").to_numpy()
    state.add(frame, times, np.zeros(frame.height, np.bool_), times)


def rows(state: OpenWindows) -> list[Any]:
    found = state.early().with_columns(pl.col("coupons").list.sort())
    return sorted(map(str, found.rows()))


@given(logs)
@settings(max_examples=60, deadline=None)
def test_few_and_many_pieces_say_the_same(log: list[Any]) -> None:
    """A snapshot after every event, with pieces joined now and then and restarts: as all events at once."""
    entries = [entry for entry in log if not isinstance(entry, int)]
    whole, state, kept = OpenWindows(CLOCKWORK), OpenWindows(CLOCKWORK), dict[str, tuple[object, bytes]]()
    take(whole, entries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "_PIECES_MAX", 3)
        for entry in entries:
            take(state, [entry])
            kept = {
                name: kept[name] if name in kept and kept[name][0] == one.token else (one.token, one.data())
                for name, one in state.segments().items()
            }
            state = OpenWindows(CLOCKWORK, {name: data for name, (_, data) in kept.items()})
    assert rows(state) == rows(whole)


def test_a_snapshot_writes_what_is_new() -> None:
    """The pieces of the last snapshot stay under their names and tokens."""
    state = OpenWindows(CLOCKWORK)
    take(state, [EVENT])
    before = {name: segment.token for name, segment in state.segments().items()}
    take(state, [{**EVENT, "user_id": "dan"}])
    after = {name: segment.token for name, segment in state.segments().items()}
    assert before.items() < after.items()
    assert len(after) == 2


def test_parts_of_older_releases_are_still_read() -> None:
    """They were Arrow files; what is written now are streams."""
    frame, out = pl.DataFrame({"a": [1, 2]}), io.BytesIO()
    frame.write_ipc(out, compression="lz4")
    assert frames.from_bytes(out.getvalue()).equals(frame)
    assert frames.from_bytes(frames.to_bytes(frame)).equals(frame)
