"""Final windows: the parts of all partitions added up, once the least of their watermarks has passed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import polars as pl

from schemas.event_time import Windows as Clockwork
from stream_processors import frames
from stream_processors.detectors.alert import Alert, Series
from stream_processors.detectors.baseline import Baseline
from stream_processors.detectors.looping_bot import LISTENER, LoopingBot
from stream_processors.detectors.skip_rate import SkipRate
from stream_processors.detectors.volume import Volume
from stream_processors.rollups import by_window, merged
from stream_processors.segment import Segment
from stream_processors.windows import IDENTITY, PARTIAL_SCHEMA

_NO_LOOPS = pl.DataFrame(schema={"window": pl.Int64, **dict.fromkeys(LISTENER, pl.String), "plays": pl.Int64})
_JUDGED = ["tenant", "platform", "country"]
_GAP_MAX_WINDOWS = 120
"""Silence of so many windows is judged window by window; after a longer one (old data, a replay) judging goes on."""


@dataclass(frozen=True)
class Part:
    """What one partition tells: its stream time, and rows of windows that it has closed since it last told.

    With `early` the rows are what its open windows say so far.
    """

    partition: int
    clock: int
    rows: pl.DataFrame
    early: bool = False
    sent: bytes | None = field(default=None, compare=False)
    """The rows as they came."""

    def encode(self) -> bytes:
        """A JSON line, then Arrow."""
        head = json.dumps({"partition": self.partition, "clock": self.clock, "early": self.early}).encode()
        return head + b"\n" + (frames.to_bytes(self.rows) if self.rows.height else b"")

    @classmethod
    def decode(cls, data: bytes) -> Part:
        """The Part of `encode`."""
        head, _, body = data.partition(b"\n")
        told = json.loads(head)
        rows = frames.from_bytes(body) if body else pl.DataFrame(schema=PARTIAL_SCHEMA)
        return cls(told["partition"], told["clock"], rows, told["early"], body)


@dataclass(frozen=True)
class _Waiting:
    """Rows of windows that are not final yet, as the bytes that a snapshot writes: a tenth of the memory of a frame.

    A partition may be far ahead of the others, and what it tells waits for them.
    """

    data: bytes
    first_end: int
    height: int

    @classmethod
    def of(cls, rows: pl.DataFrame, data: bytes | None = None) -> _Waiting:
        """One row at least; `data` if these are their bytes already."""
        return cls(data or frames.to_bytes(rows), int(_ends(rows).min()), rows.height)  # type: ignore[arg-type]


class _Judges(msgspec.Struct):
    """The detectors' memory as it stands in a snapshot."""

    volume: list[tuple[Series, Baseline]]
    skip_rate: list[tuple[Series, Baseline]]
    looping_bot: list[tuple[Series, int]]


class MergeState:
    """Waiting parts and the detectors: a function of the `window-partials` log up to `next` alone."""

    VERSION = 3

    def __init__(
        self,
        clockwork: Clockwork,
        partitions: int,
        header: Mapping[str, int] | None = None,
        segments: Mapping[str, bytes] | None = None,
    ) -> None:
        header, segments = header or {}, segments or {}
        self.next: int | None = header.get("next")
        self.final_before: int = header.get("final_before", 0)
        self.clocks: dict[int, int] = {
            int(name.removeprefix("clock/")): time_ms for name, time_ms in header.items() if name.startswith("clock/")
        }
        self._clockwork = clockwork
        self._partitions = partitions
        waiting = {name: name.split("/") for name in segments if name.startswith("waiting/")}
        numbered = sorted((int(number), int(partition), name) for name, (_, number, partition) in waiting.items())
        self._waiting = {
            (number, partition): _Waiting.of(frames.from_bytes(segments[name]), segments[name])
            for number, partition, name in numbered
        }
        self._number = numbered[-1][0] + 1 if numbered else 0
        self._early: dict[int, pl.DataFrame] = {}
        judges = msgspec.json.decode(segments["judges"], type=_Judges) if "judges" in segments else _Judges([], [], [])
        self._volume = Volume(dict(judges.volume))
        self._skip_rate = SkipRate(dict(judges.skip_rate))
        plays = {int(name[6:]): frames.from_bytes(data) for name, data in segments.items() if name.startswith("plays/")}
        self._looping_bot = LoopingBot(plays, dict(judges.looping_bot))

    @property
    def watermark_clock(self) -> int:
        """Stream time that every partition has reached; 0 until each has told its own."""
        return min(self.clocks.values()) if len(self.clocks) >= self._partitions else 0

    @property
    def open_alerts(self) -> dict[str, int]:
        """Raised and unresolved alerts by detector."""
        by_baseline = (self._volume, self._skip_rate)
        counts = {judge.name: sum(one.raised for one in judge.baselines.values()) for judge in by_baseline}
        return {**counts, self._looping_bot.name: len(self._looping_bot.raised)}

    def add(self, part: Part) -> tuple[pl.DataFrame, list[Alert]]:
        """Takes one part; returns the windows that are final now (PARTIAL_SCHEMA without listeners) and alerts.

        Windows of a minute stand before larger ones.

        A part that is told again after a replay has the same rows, which are kept once.
        """
        if part.early:
            self._early[part.partition] = part.rows
            return pl.DataFrame(schema=PARTIAL_SCHEMA), []
        known = self._clockwork.closed_before(self.clocks.get(part.partition, 0))
        _, rows = _split(part.rows, max(known, self.final_before))
        self.clocks[part.partition] = max(part.clock, self.clocks.get(part.partition, 0))
        border = self._clockwork.closed_before(self.watermark_clock)
        if border <= self.final_before:
            self._wait(part, rows)
            return pl.DataFrame(schema=PARTIAL_SCHEMA), []
        return self._finish(border, part, rows)

    def early(self) -> pl.DataFrame:
        """What all partitions have told of the windows that are not final, added up; not part of the state."""
        told, self._early = self._early, {}
        if not told:
            return pl.DataFrame(schema=PARTIAL_SCHEMA)
        borders = {partition: self._clockwork.closed_before(self.clocks.get(partition, 0)) for partition in told}
        rows = [_split(rows, max(borders[partition], self.final_before))[1] for partition, rows in told.items()]
        rows += [frames.from_bytes(waiting.data) for waiting in self._waiting.values()]
        is_minute = pl.col("size_ms") == self._clockwork.window_ms
        return merged(pl.concat(rows).filter(is_minute, pl.col("scope") != "listener"))

    def _wait(self, part: Part, rows: pl.DataFrame) -> None:
        if rows.height:
            sent = part.sent if rows is part.rows else None
            self._waiting[self._number, part.partition] = _Waiting.of(rows, sent)
            self._number += 1

    def _finish(self, border: int, part: Part, rows: pl.DataFrame) -> tuple[pl.DataFrame, list[Alert]]:
        before, self.final_before = self.final_before, border
        done: dict[int, list[pl.DataFrame]] = {}
        for key in [key for key, waiting in self._waiting.items() if waiting.first_end <= border]:
            ended, left = _split(frames.from_bytes(self._waiting[key].data), border)
            done.setdefault(key[1], []).append(ended)
            if left.height:
                self._waiting[key] = _Waiting.of(left)
            else:
                del self._waiting[key]
        ended, left = _split(rows, border)
        if ended.height:
            done.setdefault(part.partition, []).append(ended)
        self._wait(part, left)
        if not done:
            return pl.DataFrame(schema=PARTIAL_SCHEMA), self._silence(before, border)
        final = merged(pl.concat(rows for parts in done.values() for rows in _told_once(parts)))
        is_minute = pl.col("size_ms") == self._clockwork.window_ms
        minutes, larger = final.filter(is_minute), final.filter(~is_minute)
        alerts, at = [], before
        series = minutes.filter(pl.col("scope") == "series")
        counts = series.group_by("window", *_JUDGED, "event_type").agg(pl.col("events").sum())
        loops = by_window(minutes.filter(pl.col("scope") == "listener").select("window", *LISTENER, "plays"))
        for window, by_kind in sorted(by_window(counts).items()):
            alerts += self._silence(at, window)
            alerts += self._judge(window, by_kind, loops.get(window, _NO_LOOPS))
            at = window + self._clockwork.window_ms
        alerts += self._silence(at, border)
        return pl.concat((minutes.filter(pl.col("scope") != "listener"), larger)), alerts

    def _silence(self, start: int, end: int) -> list[Alert]:
        size = self._clockwork.window_ms
        if not start or (end - start) // size > _GAP_MAX_WINDOWS or not self._volume.is_watching:
            return []
        return [a for w in range(start, end, size) for a in self._volume.observe(w, w + size, {})]

    def _judge(self, start: int, by_kind: pl.DataFrame, loops: pl.DataFrame) -> list[Alert]:
        end = start + self._clockwork.window_ms
        events: dict[Series, int] = {}
        plays: dict[Series, int] = {}
        skips: dict[Series, int] = {}
        for _, tenant, platform, country, kind, count in by_kind.iter_rows():
            counted = {"play": plays, "skip": skips}.get(kind)
            for series in {Series(tenant, platform), Series(tenant, platform, country)}:
                events[series] = events.get(series, 0) + count
                if counted is not None:
                    counted[series] = counted.get(series, 0) + count
        return [
            *self._volume.observe(start, end, events),
            *self._skip_rate.observe(start, end, plays, skips),
            *self._looping_bot.observe(start, end, loops.drop("window")),
        ]

    def header(self) -> dict[str, int]:
        """The small part of the state."""
        clocks = {f"clock/{partition}": time_ms for partition, time_ms in self.clocks.items()}
        return {"next": self.next or 0, "final_before": self.final_before, **clocks}

    def segments(self) -> dict[str, Segment]:
        """The waiting parts and the detectors' memory."""
        found = {"judges": Segment(self.final_before, self._judges)}
        for (number, partition), waiting in self._waiting.items():
            found[f"waiting/{number}/{partition}"] = Segment.of(waiting.height, waiting.data)
        for start, plays in self._looping_bot.windows.items():
            found[f"plays/{start}"] = Segment(start, lambda plays=plays: frames.to_bytes(plays))  # type: ignore[misc]
        return found

    def _judges(self) -> bytes:
        return msgspec.json.encode(
            _Judges(
                list(self._volume.baselines.items()),
                list(self._skip_rate.baselines.items()),
                list(self._looping_bot.raised.items()),
            )
        )


def _ends(rows: pl.DataFrame) -> pl.Series:
    return rows["window"] + rows["size_ms"]


def _split(rows: pl.DataFrame, border: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(windows that end at or before `border`, the others)."""
    ends = _ends(rows)
    if rows.is_empty() or int(ends.max()) <= border:  # type: ignore[arg-type]
        return rows, rows[:0]
    is_ended = ends <= border
    return (rows.filter(is_ended), rows.filter(~is_ended)) if is_ended.any() else (rows[:0], rows)


def _told_once(parts: list[pl.DataFrame]) -> list[pl.DataFrame]:
    """What one partition told, in order: large windows come in pieces, and after a replay a piece may come again."""
    ends = [_ends(part) for part in parts]
    if all(int(a.max()) < int(b.min()) for a, b in pairwise(ends)):  # type: ignore[arg-type]
        return parts
    return [pl.concat(parts).unique(IDENTITY, keep="last")]
