"""Larger windows of one partition, made of the closed smaller ones: minutes become 5 minutes, hours and days.

Each closed window is kept until the next larger window closes and takes it in, as the bytes that a snapshot writes: a
third of the memory of its frame. Some closed windows together are added up to one, so a day never has 24 hours to add
up at its end, and a snapshot seldom writes more than what closed since the last one.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from stream_processors import frames
from stream_processors.codes import Codes, hashes
from stream_processors.counting import COUNTS, summed
from stream_processors.segment import Segment
from stream_processors.sketch import united
from stream_processors.windows import IDENTITY, PARTIAL_SCHEMA

SIZES_MS = (300_000, 3_600_000, 86_400_000)
"""5 minutes, 1 hour and 1 day, in UTC."""

_PARTS_MAX = 6
"""So many parts of one window are added up to one."""


class Rollups:
    """The parts of the larger windows that are still open."""

    def __init__(self, window_ms: int, segments: Mapping[str, bytes] | None = None) -> None:
        self.sizes_ms = [size for size in SIZES_MS if size > window_ms and size % window_ms == 0]
        self._parts: dict[tuple[int, int], dict[int, bytes]] = {}
        for name, data in (segments or {}).items():
            size_ms, start, number = (int(part) for part in name.split("/"))
            self._parts.setdefault((size_ms, start), {})[number] = data

    def close(self, closed: pl.DataFrame, border: int) -> pl.DataFrame:
        """Takes in closed windows (`partial` rows) and gives the larger ones that end at or before `border`."""
        found = [pl.DataFrame(schema=PARTIAL_SCHEMA)]
        for size_ms in self.sizes_ms:
            rows = closed.filter(pl.col("scope") != "listener").with_columns(
                pl.col("window") // size_ms * size_ms, size_ms=pl.lit(size_ms, pl.Int64)
            )
            told = by_window(rows)
            parts: list[pl.DataFrame] = []
            for start in dict.fromkeys([*(start for size, start in self._parts if size == size_ms), *told]):
                if start + size_ms <= border:
                    parts += map(frames.from_bytes, self._parts.pop((size_ms, start), {}).values())
                    parts += [told[start]] if start in told else []
                elif start in told:
                    self._keep(size_ms, start, told[start])
            closed = merged(pl.concat(parts)) if parts else found[0]
            found.append(closed)
        return pl.concat(found)

    def ends_before(self, border: int) -> bool:
        """Whether a larger window ends at or before `border`."""
        return any(start + size_ms <= border for size_ms, start in self._parts)

    def _keep(self, size_ms: int, start: int, part: pl.DataFrame) -> None:
        held = self._parts.setdefault((size_ms, start), {})
        number = max(held, default=-1) + 1
        held[number] = frames.to_bytes(part)
        if len(held) >= _PARTS_MAX:
            whole = merged(pl.concat(frames.from_bytes(part) for part in held.values()))
            self._parts[size_ms, start] = {number + 1: frames.to_bytes(whole)}

    def segments(self) -> dict[str, Segment]:
        """Size, start and number, as in the constructor."""
        return {
            f"{size_ms}/{start}/{number}": Segment.of(0, part)
            for (size_ms, start), held in self._parts.items()
            for number, part in held.items()
        }


def by_window(rows: pl.DataFrame) -> dict[int, pl.DataFrame]:
    """The rows of each window, by its start."""
    if rows.is_empty() or rows["window"].min() == rows["window"].max():
        return {rows["window"][0]: rows} if rows.height else {}
    return {start: part for (start,), part in rows.partition_by("window", as_dict=True).items()}


def merged(parts: pl.DataFrame) -> pl.DataFrame:
    """Rows of `PARTIAL_SCHEMA`, one for each window and series or track: counts added, users united."""
    codes, first = Codes().of(hashes(parts, IDENTITY))
    counts = summed(parts.select(COUNTS).to_numpy(), codes, len(first))
    has_users = parts["coupons"].null_count() < parts.height
    users = united(parts["coupons"], codes, len(first)) if has_users else parts["coupons"][: len(first)]
    return frames.owned(parts.select(IDENTITY)[first]).hstack(pl.DataFrame(counts, schema=COUNTS)).with_columns(users)
