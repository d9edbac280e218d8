"""The rules by which the events of a listener become sessions, one event after the other.

Events that are more than the gap older than one already seen of the listener go to the lane `behind`, all others are
`live`. An event continues the session of its lane unless stream time, the newest event or the one before is more than
the gap away, or the session is full.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from schemas.kernel import kernel
from stream_processors.places import Bools, Ints, Keys
from stream_processors.row_table import CLOSED, FIELDS, NEVER, SILENT, Records, row_behind

KINDS = 5
"""Types of events, in the order of the schema."""
_OPEN = SILENT + 1
_ONE = np.uint64(1)
TRACK, DEVICE = 0, 1
"""Sorts of items."""

SESSION = np.dtype(
    [
        *FIELDS,
        ("by_size", np.bool_),  # what has ended it
        ("owner", np.uint32),  # of its distinct tracks and devices: no other session of 2^32 has this number
        ("track", np.uint64),  # of the last event, as are device and timestamp
        ("device", np.uint64),  # 0: not told
        ("timestamp", np.int64),
        ("reached", np.int64),  # greatest timestamp since the last gap
        ("started_at", np.int64),
        ("ended_at", np.int64),
        ("ms_played", np.int64),
        ("counts", np.int16, (KINDS,)),
        ("events", np.int16),
        ("items", np.int16),  # told of its tracks and devices, two an event at most
    ]
)
"""The open session of a lane, or nothing but the newest event."""


@kernel
def fold(
    lanes: Records,
    changed: Bools,
    count: int,
    live_row: Ints,
    track: Keys,
    device: Keys,
    kind: Any,
    timestamp: Ints,
    clock: Ints,
    ms_played: Ints,
    first_text: int,
    gap_ms: int,
    events_max: int,
    owner: int,
    pairs: Any,
    ended: Records,
) -> tuple[int, int, int, int, int]:
    """(rows, rows that have opened, sessions in `ended`, items in `pairs`, last owner), after these events.

    `count` rows are used, and `owner` is the last number of a session. Each event may add a row, end one session, and
    tell two items in `pairs`.
    """
    opened = found = new = 0
    for i in range(len(live_row)):
        at = live_row[i]
        live = lanes[at]
        if live.state == CLOSED:
            live.state, live.newest, live.behind = SILENT, NEVER, False
            opened += 1
        if timestamp[i] < live.newest - gap_ms and live.newest >= clock[i] - gap_ms:
            opened += live.other < 0 or lanes[live.other].state == CLOSED
            at = row_behind(lanes, at, count)
            count = max(count, at + 1)
        live.newest = max(live.newest, timestamp[i])
        changed[at] = changed[live_row[i]] = True

        lane = lanes[at]
        begins, reached = lane.state == SILENT, timestamp[i]
        if not begins:
            behind_both = max(timestamp[i] - lane.reached, lane.timestamp - timestamp[i])
            apart = max(behind_both, clock[i] - lane.clock) > gap_ms
            if not apart:
                reached = max(timestamp[i], lane.reached)
            begins = apart or lane.events == events_max
            if begins:
                lane.by_size = not apart
                ended[found] = lane
                found += 1
        if begins:
            owner += 1
            lane.state, lane.owner, lane.text, lane.by_size = _OPEN, owner, first_text + i, False
            lane.started_at = lane.ended_at = timestamp[i]
            lane.ms_played = lane.events = lane.items = 0
            lane.counts[:] = 0
        lane.events += 1
        lane.counts[kind[i]] += 1
        lane.ms_played += ms_played[i]
        lane.started_at = min(lane.started_at, timestamp[i])
        lane.ended_at = max(lane.ended_at, timestamp[i])
        lane.reached = reached
        before = new
        if begins or track[i] != lane.track:
            new = _put(pairs, new, lane.owner, track[i], TRACK)
        if device[i] != 0 and (begins or device[i] != lane.device):
            new = _put(pairs, new, lane.owner, device[i], DEVICE)
        lane.items += new - before
        lane.track, lane.device, lane.timestamp, lane.clock = track[i], device[i], timestamp[i], clock[i]
    return count, opened, found, new, owner


@kernel
def _put(pairs: Any, at: int, owner: int, item: np.uint64, sort: int) -> int:
    pairs[at].owner, pairs[at].item = owner, item & ~_ONE | np.uint64(sort)
    return at + 1


@kernel
def expire(
    lanes: Records, changed: Bools, count: int, clock: int, after_ms: int, ended: Records
) -> tuple[int, int, int]:
    """(rows that have closed, sessions that have ended, when the oldest open row was heard of) at this stream time."""
    closed = found = 0
    oldest = clock
    for at in range(count):
        lane = lanes[at]
        if lane.state == _OPEN:
            if clock - lane.clock < after_ms:
                oldest = min(oldest, lane.clock)
                continue
            ended[found] = lane
            found += 1
            lane.state = SILENT
            changed[at] = True
        if lane.state == SILENT:
            if lane.newest > clock - after_ms:
                oldest = min(oldest, lane.newest)
            elif lane.behind or lane.other < 0 or lanes[lane.other].state == CLOSED:
                lane.state = CLOSED
                changed[at] = True
                closed += 1
    return closed, found, oldest
