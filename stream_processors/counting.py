"""Counts of events that stand as codes: sums and distinct users by series and by track, in one pass."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.kernel import kernel
from stream_processors.codes import SmallInts, ordered
from stream_processors.places import Ints
from stream_processors.sketch import Coupons

COUNTS = ["events", "users", "plays", "pauses", "skips", "likes", "shares"]
COUNTS += ["ms_played", "completed_ms", "duration_ms", "late_count"]
"""Columns of a table of counts."""
_EVENTS, _USERS, _FIRST_KIND = 0, 1, 2
_MS_PLAYED, _COMPLETED, _DURATION, _LATE_COUNT = 7, 8, 9, 10

KINDS = 5
"""A series is a profile and a kind: profile * KINDS + kind."""
_PLAY = 0

Rows = npt.NDArray[np.int32]
"""Events: series, track, user (or LATE or NOBODY), ms_played, and duration_ms where both are known, else 0."""
LATE, NOBODY = -1, -2


class Counted:
    """Tables of a row per code, columns COUNTS: `series`, `tracks`; and `plays` of each pair in `listeners`."""

    def __init__(self, rows: Rows, series: int, tracks: int, users: int) -> None:
        """`series`, `tracks` and `users` are the numbers of codes."""
        self.series = np.zeros((series, len(COUNTS)), np.int64)
        self.tracks = np.zeros((tracks, len(COUNTS)), np.int64)
        by_series, by_track = np.empty((len(rows), 2), np.int32), np.empty((len(rows), 2), np.int32)
        plays = np.zeros(len(rows), np.int32)
        _sum_up(rows, self.series, self.tracks)
        in_series, in_tracks = _pair(rows, users, self.series, self.tracks, by_series, by_track, plays)
        self._by_series, self.listeners, self.plays = by_series[:in_series], by_track[:in_tracks], plays[:in_tracks]

    def coupons_of_series(self, coupons: Coupons) -> tuple[Coupons, Ints]:
        """(coupons of all series' users, where those of each series end); `coupons`: of each user."""
        return _grouped(self._by_series, coupons, self.series)

    def coupons_of_tracks(self, coupons: Coupons) -> tuple[Coupons, Ints]:
        """The same by track."""
        return _grouped(self.listeners, coupons, self.tracks)


def _grouped(pairs: SmallInts, coupons: Coupons, counts: Ints) -> tuple[Coupons, Ints]:
    order, ends = ordered(pairs[:, 0], len(counts))
    return coupons[pairs[order, 1]], ends


def summed(counts: Ints, codes: SmallInts, number: int) -> Ints:
    """The rows of a table of counts added up by code."""
    sums = np.zeros((number, len(COUNTS)), np.int64)
    _sum(np.ascontiguousarray(counts), codes, sums)
    return sums


@kernel
def _sum(counts: Ints, codes: SmallInts, sums: Ints) -> None:
    for i in range(len(codes)):
        for k in range(counts.shape[1]):
            sums[codes[i], k] += counts[i, k]


@kernel
def _sum_up(rows: Rows, series: Ints, tracks: Ints) -> None:
    """Everything but the users."""
    for i in range(len(rows)):
        one, track, ms_played, duration = rows[i, 0], rows[i, 1], np.int64(rows[i, 3]), np.int64(rows[i, 4])
        if rows[i, 2] == LATE:
            series[one, _LATE_COUNT] += 1
            continue
        completed = min(ms_played, duration) if duration > 0 else np.int64(0)
        for counts in (series[one], tracks[track]):
            counts[_EVENTS] += 1
            counts[_FIRST_KIND + one % KINDS] += 1
            counts[_MS_PLAYED] += ms_played
            counts[_COMPLETED] += completed
            counts[_DURATION] += duration


@kernel
def _pair(
    rows: Rows, users: int, series: Ints, tracks: Ints, by_series: SmallInts, by_track: SmallInts, plays: SmallInts
) -> tuple[int, int]:
    """User by user: one is new to a series or track that was last told of another one."""
    ends = np.zeros(users + 1, np.int64)
    for i in range(len(rows)):
        if rows[i, 2] >= 0:
            ends[rows[i, 2] + 1] += 1
    for user in range(users):
        ends[user + 1] += ends[user]
    heard = np.empty((len(rows), 2), np.int32)
    for i in range(len(rows)):
        user = rows[i, 2]
        if user >= 0:
            heard[ends[user], 0], heard[ends[user], 1] = rows[i, 0], rows[i, 1]
            ends[user] += 1
    last_of_series, last_of_track = np.full(len(series), -1, np.int32), np.full(len(tracks), -1, np.int32)
    pair_of_track = np.zeros(len(tracks), np.int64)
    begin, in_series, in_tracks = 0, 0, 0
    for user in range(users):
        for i in range(begin, ends[user]):
            one, track = heard[i, 0], heard[i, 1]
            if last_of_series[one] != user:
                last_of_series[one] = user
                series[one, _USERS] += 1
                by_series[in_series, 0], by_series[in_series, 1] = one, user
                in_series += 1
            if last_of_track[track] != user:
                last_of_track[track] = user
                tracks[track, _USERS] += 1
                by_track[in_tracks, 0], by_track[in_tracks, 1] = track, user
                pair_of_track[track] = in_tracks
                in_tracks += 1
            if one % KINDS == _PLAY:
                plays[pair_of_track[track]] += 1
        begin = ends[user]
    return in_series, in_tracks
