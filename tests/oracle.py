"""Batch oracle: plain Python over a whole log, one event after the other, to compare streaming results with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crossfade.oracle import Plays

Event = Mapping[str, Any]


@dataclass
class Oracle:
    """What the logs of all partitions lead to. `windows` maps (start, scope, dimensions) to its counts."""

    window_ms: int = 60_000
    grace_ms: int = 10_000
    play_timeout_ms: int = 3_600_000
    windows: dict[tuple[Any, ...], dict[str, int]] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)
    plays: dict[str, dict[str, Any]] = field(default_factory=dict)
    users: defaultdict[tuple[Any, ...], set[str]] = field(default_factory=lambda: defaultdict(set))

    def read(self, partition: Iterable[Event | int]) -> Oracle:
        """Takes the log of one partition; an int is a watermark record."""
        clock, seen = 0, set()
        users: defaultdict[tuple[Any, ...], set[str]] = defaultdict(set)
        plays = Plays(self.play_timeout_ms)
        for entry in partition:
            if isinstance(entry, int):
                clock = max(clock, entry)
                continue
            is_late = entry["timestamp"] < (clock - self.grace_ms) // self.window_ms * self.window_ms
            before, clock = clock, max(clock, min(entry["timestamp"], entry.get("arrival_ms", 1 << 62)))
            if (entry["tenant"], entry["event_id"]) in seen:
                continue
            seen.add((entry["tenant"], entry["event_id"]))
            self._window(entry, before if is_late else entry["timestamp"], is_late, users)
            if entry["user_id"] is not None:
                plays.take(entry, clock)
        for key, names in users.items():
            self.users[key] |= names
            self.windows[key]["users"] = self.windows[key].get("users", 0) + len(names)
        told = ("ended_by", "ms_played")
        self.plays |= {name: {key: row[key] for key in told} for name, row in plays.finish(clock).items()}
        return self

    def _window(self, e: Event, at_ms: int, is_late: bool, users: defaultdict[tuple[Any, ...], set[str]]) -> None:
        start = at_ms // self.window_ms * self.window_ms
        app = e.get("app_version")
        series = (start, "series", e["tenant"], e["event_type"], e["platform"], e["country"], app, None)
        track = (start, "track", e["tenant"], None, None, None, None, e["track_id"])
        if is_late:
            self.late.add(e["event_id"])
            counts = self.windows.setdefault(series, {})
            counts["late_count"] = counts.get("late_count", 0) + 1
            return
        column = f"{e['event_type']}s"
        for key in (series, track):
            counts = self.windows.setdefault(key, {})
            for name, more in (("events", 1), ("ms_played", e["ms_played"] or 0), (column, 1)):
                if name is not None:
                    counts[name] = counts.get(name, 0) + more
            if e["user_id"] is not None:
                users[key].add(e["user_id"])

    def counts(self) -> dict[tuple[Any, ...], tuple[int, ...]]:
        """Every window with its counts in the order of COUNTS."""
        return {key: tuple(found.get(name, 0) for name in COUNTS) for key, found in self.windows.items()}


COUNTS = ("events", "users", "plays", "pauses", "skips", "likes", "shares", "ms_played", "late_count")
DIMENSIONS = ("scope", "tenant", "event_type", "platform", "country", "app_version", "track_id")
