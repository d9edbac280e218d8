"""Tumbling windows of one partition: a window comes out once stream time has passed its end and grace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.codec import schema
from schemas.event_time import Millis
from schemas.event_time import Windows as Clockwork
from stream_processors import frames
from stream_processors.codes import MARKS, Codes, hashes, mark
from stream_processors.counting import COUNTS, KINDS, LATE, NOBODY, Counted, Rows
from stream_processors.places import Bools, Ints
from stream_processors.segment import Segment
from stream_processors.sketch import Coupons, coupons, listed, stable_hashes

EVENT_TYPE = pl.Enum(
    next(f["type"]["symbols"] for f in schema("listening_event")["fields"] if f["name"] == "event_type")
)

DIMENSIONS = ["tenant", "event_type", "platform", "country", "app_version", "track_id", "user_id"]

Schema = dict[str, pl.DataType | type[pl.DataType]]
PARTIAL_SCHEMA: Schema = {
    "window": pl.Int64,
    "size_ms": pl.Int64,
    "scope": pl.String,
    **dict.fromkeys(DIMENSIONS, pl.String),
    **dict.fromkeys(COUNTS, pl.Int64),
    "coupons": pl.List(pl.UInt32),
}
IDENTITY = ["window", "size_ms", "scope", *DIMENSIONS]

LOOP_MIN_PLAYS = 2
"""A listener who starts one track so often within a window is named to the looping-bot detector."""

_MARKS = ("profile", "track", "user")
_TEXTS = [MARKS[name] for name in _MARKS]
"""What profile, track and user of an event are."""

_PIECES_MAX = 128
"""So many pieces of one window are joined to one."""


@dataclass(frozen=True)
class _Piece:
    """Events of one window as codes, and the texts of the codes that are new in it: a frame for each of `_TEXTS`."""

    rows: Rows
    texts: Sequence[pl.DataFrame]

    @classmethod
    def joined(cls, pieces: Sequence[_Piece]) -> _Piece:
        """Pieces that follow one another in their window."""
        texts = zip(*(piece.texts for piece in pieces), strict=True)
        return cls(_joined(piece.rows for piece in pieces), [pl.concat(some, rechunk=True) for some in texts])

    def encode(self) -> bytes:
        """A frame of a single row: its columns are lists of different lengths."""
        lists = [pl.Series(f"row/{i}", column).shrink_dtype() for i, column in enumerate(self.rows.T)]
        lists += [column.alias(f"{i}/{column.name}") for i, frame in enumerate(self.texts) for column in frame]
        return frames.to_bytes(pl.DataFrame([one.implode() for one in lists]), views=False)

    @classmethod
    def decode(cls, data: bytes) -> _Piece:
        """The piece of `encode`."""
        lists = {one.name: one.explode(empty_as_null=False) for one in frames.from_bytes(data)}
        rows = np.stack([lists[f"row/{i}"].cast(pl.Int32).to_numpy() for i in range(5)], axis=1)
        texts = [pl.DataFrame({name: lists[f"{i}/{name}"] for name in names}) for i, names in enumerate(_TEXTS)]
        return cls(np.ascontiguousarray(rows), texts)


class _Events:
    """A batch in columns: texts and their hashes by `_TEXTS`, kind (place in EVENT_TYPE), and numbers without nulls."""

    def __init__(self, frame: pl.DataFrame, late: Bools) -> None:
        timed = pl.col("ms_played").is_not_null() & (pl.col("duration_ms") > 0)
        numbers = frame.select(
            pl.col("event_type").cast(EVENT_TYPE).to_physical(),
            pl.col("ms_played").fill_null(0),
            duration_ms=pl.when(timed).then("duration_ms").otherwise(0),
        )
        self.texts = [frame.select(names) for names in _TEXTS]
        self.hashes = [mark(frame, name) for name in _MARKS]
        self.kind, self.ms_played, self.duration_ms = (column.to_numpy() for column in numbers)
        self.late = late
        self.nobody = frame["user_id"].is_null().to_numpy()


class _Window:
    """An open window, in pieces: those that a snapshot has seen do not change any more."""

    def __init__(self) -> None:
        self._codes = [Codes() for _ in _TEXTS]
        self._sealed: dict[int, _Piece] = {}
        self._new: list[_Piece] = []

    def number(self, events: _Events, places: Ints) -> tuple[Rows, list[Ints]]:
        """(the events at these places as codes, places of the events that name new profiles, tracks and users)."""
        rows, new = np.empty((len(places), 5), np.int32), []
        for i, (codes, known) in enumerate(zip(self._codes, events.hashes, strict=True)):
            rows[:, i], first = codes.of(known[places])
            new.append(places[first])
        rows[:, 0] = rows[:, 0] * KINDS + events.kind[places]
        rows[events.nobody[places], 2] = NOBODY
        rows[events.late[places], 2] = LATE
        rows[:, 3], rows[:, 4] = events.ms_played[places], events.duration_ms[places]
        return rows, new

    def take(self, piece: _Piece) -> None:
        """Takes what was just numbered."""
        self._new.append(piece)

    def load(self, number: int, piece: _Piece) -> None:
        """Takes a sealed piece back, in the order of the numbers."""
        for codes, texts in zip(self._codes, piece.texts, strict=True):
            codes.of(hashes(texts, texts.columns))
        self._sealed[number] = piece

    def whole(self) -> _Piece:
        """All pieces as one."""
        return _Piece.joined([*self._sealed.values(), *self._new])

    def segments(self) -> dict[int, Segment]:
        """The pieces by number."""
        if self._new:
            number = max(self._sealed, default=-1) + 1
            if len(self._sealed) >= _PIECES_MAX:
                self._sealed = {number: self.whole()}
            else:
                self._sealed[number] = _Piece.joined(self._new)
            self._new = []
        return {number: Segment(number, piece.encode) for number, piece in self._sealed.items()}


class OpenWindows:
    """The windows that are still open: every event as codes, so that users stay exact and closing counts integers."""

    def __init__(self, clockwork: Clockwork, segments: Mapping[str, bytes] | None = None) -> None:
        self._clockwork = clockwork
        self._windows: dict[int, _Window] = {}
        places = {name: [int(part) for part in name.split("/")] for name in segments or {}}
        for name, (start, number) in sorted(places.items(), key=lambda item: item[1]):
            self._windows.setdefault(start, _Window()).load(number, _Piece.decode((segments or {})[name]))

    def add(self, frame: pl.DataFrame, timestamps: Millis, late: npt.NDArray[np.bool_], clock: Millis) -> None:
        """Counts marked events in their windows; a late one counts in the window that is current on its arrival."""
        if frame.is_empty():
            return
        starts = np.where(late, self._clockwork.start(clock), self._clockwork.start(timestamps))
        events = _Events(frame, late)
        windows, numbered = [], []
        for start, places in self._by_window(starts):
            windows.append(self._windows.setdefault(start, _Window()))
            numbered.append(windows[-1].number(events, places))
        texts = [_parts(frame, [new[i] for _, new in numbered]) for i, frame in enumerate(events.texts)]
        for i, (window, (rows, _)) in enumerate(zip(windows, numbered, strict=True)):
            window.take(_Piece(rows, [parts[i] for parts in texts]))

    def _by_window(self, starts: Millis) -> Iterator[tuple[int, Ints]]:
        order = np.argsort(starts, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(starts[order])) + 1):
            yield int(starts[rows[0]]), rows

    def close(self, clock: int) -> pl.DataFrame:
        """Takes out the windows that nothing can enter any more at stream time `clock`, as `PARTIAL_SCHEMA` rows."""
        border = self._clockwork.closed_before(clock)
        done = sorted(start for start in self._windows if start < border)
        return self._counted({start: self._windows.pop(start) for start in done})

    def early(self) -> pl.DataFrame:
        """What the open windows say so far, as `PARTIAL_SCHEMA` rows."""
        return self._counted(self._windows)

    def segments(self) -> dict[str, Segment]:
        """Window and number, as in the constructor."""
        return {
            f"{start}/{number}": segment
            for start, window in self._windows.items()
            for number, segment in window.segments().items()
        }

    def _counted(self, windows: Mapping[int, _Window]) -> pl.DataFrame:
        """Rows of scope `series`, `track` and `listener` per window.

        Users are the Kafka key, so distinct users of different partitions add up. Their coupons are for larger windows.
        """
        if not windows:
            return pl.DataFrame(schema=PARTIAL_SCHEMA)
        profiles, tracks, users, rows = _side_by_side({start: window.whole() for start, window in windows.items()})
        counted = Counted(rows, KINDS * profiles.height, tracks.height, users.height)
        coupon = coupons(stable_hashes(users["user_id"].fill_null("")))
        kinds = pl.Series("event_type", EVENT_TYPE.categories)
        series = profiles[np.repeat(np.arange(profiles.height), KINDS)].with_columns(
            event_type=kinds[np.tile(np.arange(KINDS), profiles.height)]
        )
        loops = np.flatnonzero(counted.plays >= LOOP_MIN_PLAYS)
        listeners = tracks[counted.listeners[loops, 0]].with_columns(
            users[counted.listeners[loops, 1]]["user_id"], plays=pl.Series(counted.plays[loops])
        )
        scoped = {
            "series": _told(series, counted.series, *counted.coupons_of_series(coupon)),
            "track": _told(tracks, counted.tracks, *counted.coupons_of_tracks(coupon)),
            "listener": listeners,
        }
        return pl.concat(_shaped(frame, scope, self._clockwork.window_ms) for scope, frame in scoped.items())


def _parts(frame: pl.DataFrame, places: list[Ints]) -> list[pl.DataFrame]:
    """The rows at these places, taken out at once."""
    found = frames.owned(frame[np.concatenate(places)])
    ends = np.cumsum([len(some) for some in places])
    return [found[end - len(some) : end] for end, some in zip(ends, places, strict=True)]


def _side_by_side(pieces: Mapping[int, _Piece]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, Rows]:
    """Profiles, tracks and users with their window, and events, with codes that count on from window to window."""
    heights = np.array([[frame.height for frame in piece.texts] for piece in pieces.values()], np.int32)
    offsets = np.cumsum(heights, axis=0, dtype=np.int32) - heights
    rows = _joined(piece.rows for piece in pieces.values())
    if len(pieces) > 1:
        moves = np.repeat(offsets, [len(piece.rows) for piece in pieces.values()], axis=0)
        rows[:, 0] += KINDS * moves[:, 0]
        rows[:, 1] += moves[:, 1]
        rows[:, 2] += np.where(rows[:, 2] < 0, 0, moves[:, 2])
    starts = np.fromiter(pieces, np.int64)
    profiles, tracks, users = (
        pl.concat(some, rechunk=True).with_columns(window=pl.Series(np.repeat(starts, heights[:, i])))
        for i, some in enumerate(zip(*(piece.texts for piece in pieces.values()), strict=True))
    )
    return profiles, tracks, users, rows


def _joined(arrays: Iterable[Rows]) -> Rows:
    some = list(arrays)
    return some[0] if len(some) == 1 else np.concatenate(some)


def _told(frame: pl.DataFrame, counts: Ints, values: Coupons, ends: Ints) -> pl.DataFrame:
    """The rows that count anything."""
    found = frame.hstack(pl.DataFrame(counts, schema=COUNTS)).with_columns(listed(values, ends))
    is_counted = counts.any(axis=1)
    return found if is_counted.all() else found.filter(pl.Series(is_counted))


def _shaped(frame: pl.DataFrame, scope: str, size_ms: int) -> pl.DataFrame:
    frame = frame.with_columns(scope=pl.lit(scope), size_ms=pl.lit(size_ms, pl.Int64))
    return frame.select(
        pl.col(c).cast(t) if c in frame.columns else pl.lit(0 if c in COUNTS else None, t).alias(c)
        for c, t in PARTIAL_SCHEMA.items()
    )
