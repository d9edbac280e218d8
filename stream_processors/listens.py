"""The rules by which plays, pauses and skips of a listener become rows of `plays`, one event after the other.

Key: a listener and a device. A play that is older than the newest play of its key (an offline upload) goes to the lane
`behind`, everything else is `live`; the lanes know nothing of each other, so the past never ends what is heard now.
A pause or skip right after a play of its track goes where the play went, else it is judged by its own time.

Stretch: from a play to the next move of its lane, or to the time-out, after which nothing is known (0 ms).
Listen: a play of the same track continues the listen when it begins after position 0, and either nothing stands
between (seek) or a pause that lies no more than REWIND_MS further on (resume). A skip ends the listen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from schemas.kernel import kernel
from stream_processors.places import Bools, Ints, Keys
from stream_processors.row_table import CLOSED, FIELDS, NEVER, SILENT, Records, row_behind

STREAM_MS = 30_000
"""A listen of this length counts as a stream, as it does for royalties."""
SCROBBLE_MS = 240_000
"""Heard for so long, or for half of the track, a listen counts as a scrobble (Last.fm: tracks over 30 s)."""
REWIND_MS = 10_000
"""Players go back a little when they resume; a play further before the pause is a new listen."""

PLAY, PAUSE, SKIP, TIMEOUT = range(4)
"""What ends a stretch: an event of this kind (the first of the schema), or none."""
_PLAYING, _PAUSED = SILENT + 1, SILENT + 2
_NO_LANE, _LIVE, _BEHIND = range(3)

LANE = np.dtype(
    [
        *FIELDS,
        ("scrobbled", np.bool_),  # the listen has been counted as a scrobble
        ("last", np.uint8),  # lane of the play that was the last move of the key, whatever the lane
        ("timestamp", np.int64),  # of the play or pause
        ("track", np.uint64),
        ("duration_ms", np.int64),  # NEVER: not told
        ("position_ms", np.int32),  # of the pause; negative: not told
        ("stretch", np.int32),
        ("heard", np.int64),  # of the listen, in the stretches that have ended
        ("listen", np.int32),  # number of the text that tells the listen
    ]
)
"""What is kept of a lane: an open play, a pause that may be resumed, or nothing but the newest play."""

STRETCH = np.dtype(
    [
        ("text", np.int32),
        ("listen", np.int32),
        ("started_at", np.int64),
        ("ended_at", np.int64),
        ("ms_played", np.int64),
        ("duration_ms", np.int64),
        ("stretch", np.int32),
        ("ended_by", np.uint8),
        ("is_stream", np.bool_),
        ("is_scrobble", np.bool_),
    ]
)
"""A finished play."""


@kernel
def fold(
    lanes: Records,
    changed: Bools,
    count: int,
    live_row: Ints,
    track: Keys,
    kind: Any,
    timestamp: Ints,
    clock: Ints,
    position_ms: Any,
    ms_played: Any,
    duration_ms: Ints,
    first_text: int,
    timeout_ms: int,
    ended: Records,
) -> tuple[int, int, int]:
    """(rows, rows that have opened, stretches that have ended and are in `ended`), after these events.

    `count` rows are used; each event may add one, and end one stretch. Numbers that are not told are negative.
    """
    opened = found = 0
    for i in range(len(live_row)):
        live = lanes[live_row[i]]
        if kind[i] > SKIP or (kind[i] != PLAY and live.state == CLOSED):
            continue
        if live.state == CLOSED:
            live.state, live.newest, live.last, live.behind = SILENT, NEVER, _NO_LANE, False
            opened += 1
        is_old = timestamp[i] < live.newest and live.newest > clock[i] - timeout_ms
        if kind[i] != PLAY and live.last != _NO_LANE:
            last = lanes[live_row[i] if live.last == _LIVE else live.other]
            if last.track == track[i] and clock[i] - last.clock < timeout_ms:
                is_old = live.last == _BEHIND
        at = live_row[i]
        if is_old:
            opened += live.other < 0 or lanes[live.other].state == CLOSED
            at = row_behind(lanes, at, count)
            count = max(count, at + 1)
        changed[at] = changed[live_row[i]] = True
        live.last = _NO_LANE if kind[i] != PLAY else _BEHIND if is_old else _LIVE
        if kind[i] == PLAY:
            live.newest = max(live.newest, timestamp[i])

        lane = lanes[at]
        before = lane.state
        if before == _PLAYING:
            same_track = kind[i] != PLAY and track[i] == lane.track
            between = max(0, timestamp[i] - lane.timestamp)
            ended_at, ended_by, heard = max(lane.timestamp, timestamp[i]), kind[i], between
            if clock[i] - lane.clock >= timeout_ms:
                ended_by, before = TIMEOUT, SILENT
            elif same_track and ms_played[i] >= 0:
                heard = ms_played[i]
            elif between >= timeout_ms:
                ended_by = TIMEOUT
                before = _PLAYING if kind[i] == PAUSE else SILENT
            elif lane.duration_ms >= 0:
                heard = min(between, lane.duration_ms)
            if ended_by == TIMEOUT:
                ended_at, heard = lane.timestamp + timeout_ms, 0
            _end(lane, ended_at, ended_by, heard, ended[found])
            found += 1
            lane.state = SILENT
        elif before == _PAUSED and clock[i] - lane.clock >= timeout_ms:
            before = lane.state = SILENT

        if kind[i] == SKIP:
            lane.state = SILENT
        elif kind[i] == PAUSE:
            if before == _PLAYING:
                lane.position_ms = position_ms[i] if track[i] == lane.track else -1
                lane.state, lane.timestamp, lane.clock = _PAUSED, timestamp[i], clock[i]
        else:
            again = (
                before != SILENT
                and track[i] == lane.track
                and position_ms[i] > 0
                and timestamp[i] - lane.timestamp < timeout_ms
                and (before == _PLAYING or lane.position_ms < 0 or position_ms[i] >= lane.position_ms - REWIND_MS)
            )
            lane.text = first_text + i
            if not again:
                lane.listen, lane.stretch, lane.heard, lane.scrobbled = lane.text, 0, 0, False
            lane.stretch += 1
            lane.state, lane.timestamp, lane.clock = _PLAYING, timestamp[i], clock[i]
            lane.track, lane.duration_ms = track[i], duration_ms[i]
    return count, opened, found


@kernel
def _end(lane: Any, ended_at: int, ended_by: int, heard: int, stretch: Any) -> None:
    before, duration = lane.heard, lane.duration_ms
    total = before + heard
    enough = total >= SCROBBLE_MS or (duration > 0 and 2 * total >= duration)
    stretch.text, stretch.listen, stretch.stretch = lane.text, lane.listen, lane.stretch
    stretch.started_at, stretch.ended_at, stretch.ended_by = lane.timestamp, ended_at, ended_by
    stretch.ms_played, stretch.duration_ms = heard, duration
    stretch.is_stream = total >= STREAM_MS and before < STREAM_MS
    stretch.is_scrobble = enough and (duration <= 0 or duration > STREAM_MS) and not lane.scrobbled
    lane.scrobbled |= stretch.is_scrobble
    lane.heard = total


@kernel
def expire(
    lanes: Records, changed: Bools, count: int, clock: int, after_ms: int, ended: Records
) -> tuple[int, int, int]:
    """(rows that have closed, stretches that have ended, when the oldest open row was heard of) at this stream time."""
    closed = found = 0
    oldest = clock
    for at in range(count):
        lane = lanes[at]
        if lane.state > SILENT:
            if clock - lane.clock < after_ms:
                oldest = min(oldest, lane.clock)
                continue
            if lane.state == _PLAYING:
                _end(lane, lane.timestamp + after_ms, TIMEOUT, 0, ended[found])
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
                if lane.behind and lanes[lane.other].last == _BEHIND:
                    lanes[lane.other].last = _NO_LANE
                    changed[lane.other] = True
    return closed, found, oldest
