"""Batch oracle for plays and sessions: plain Python, one event after the other, from the rules in docs/event.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Event = Mapping[str, Any]
Row = dict[str, Any]


@dataclass
class Listen:
    """Stretches of one track that belong together."""

    id: str
    stretches: int = 0
    heard: int = 0
    streamed: bool = False
    scrobbled: bool = False


@dataclass
class Move:
    """A play that is open, or a pause that may be resumed."""

    event: Event
    clock: int
    listen: Listen
    track: str
    position: int | None


@dataclass
class Lane:
    """What is heard now, or what comes late: the two know nothing of each other."""

    playing: Move | None = None
    paused: Move | None = None


@dataclass
class Key:
    """A listener and a device."""

    newest: int | None = None
    last: tuple[Event, int, Lane] | None = None
    live: Lane = field(default_factory=Lane)
    behind: Lane = field(default_factory=Lane)


class Plays:
    """Rows of `plays` by play_id."""

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self._keys: dict[Any, Key] = {}
        self.rows: dict[str, Row] = {}

    def take(self, event: Event, clock: int) -> None:
        """One event; `clock` is stream time after it."""
        if event["event_type"] not in ("play", "pause", "skip"):
            return
        key = self._keys.setdefault((event["tenant"], event["user_id"], event.get("device")), Key())
        lane = self._lane(key, event, clock)
        key.last = (event, clock, lane)
        if event["event_type"] == "play":
            key.newest = event["timestamp"] if key.newest is None else max(key.newest, event["timestamp"])
        self._time_out(lane, clock)
        playing, paused = lane.playing, lane.paused
        lane.playing = None
        if playing is not None and not self._end(playing, event):
            playing = None
        match event["event_type"]:
            case "play":
                lane.paused = None
                before = playing or paused
                listen = Listen(event["event_id"])
                if before is not None and self._same_listen(before, event):
                    listen = before.listen
                listen.stretches += 1
                lane.playing = Move(event, clock, listen, event["track_id"], None)
            case "pause" if playing is not None:
                same = event["track_id"] == playing.track
                lane.paused = Move(
                    event, clock, playing.listen, playing.track, told(event, "position_ms") if same else None
                )
            case "skip":
                lane.paused = None

    def _lane(self, key: Key, event: Event, clock: int) -> Lane:
        if event["event_type"] != "play" and key.last is not None:
            last, at, lane = key.last
            own = last["event_type"] == "play" and last["track_id"] == event["track_id"]
            if own and clock - at < self._timeout_ms:
                return lane
        old = key.newest is not None and event["timestamp"] < key.newest and key.newest > clock - self._timeout_ms
        return key.behind if old else key.live

    def _time_out(self, lane: Lane, clock: int) -> None:
        if lane.playing is not None and clock - lane.playing.clock >= self._timeout_ms:
            at = lane.playing.event["timestamp"] + self._timeout_ms
            self._row(lane.playing, at, "timeout", 0)
            lane.playing = None
        if lane.paused is not None and clock - lane.paused.clock >= self._timeout_ms:
            lane.paused = None

    def _same_listen(self, before: Move, event: Event) -> bool:
        position = told(event, "position_ms")
        if event["track_id"] != before.track or not position:
            return False
        if event["timestamp"] - before.event["timestamp"] >= self._timeout_ms:
            return False
        return before.position is None or position >= before.position - 10_000

    def _end(self, playing: Move, event: Event) -> bool:
        """Writes the row; False when it was a time-out."""
        begun = playing.event
        heard = told(event, "ms_played")
        if event["event_type"] == "play" or event["track_id"] != begun["track_id"]:
            heard = None
        between = max(0, event["timestamp"] - begun["timestamp"])
        if heard is None and between >= self._timeout_ms:
            self._row(playing, begun["timestamp"] + self._timeout_ms, "timeout", 0)
            return bool(event["event_type"] == "pause")
        if heard is None:
            duration = told(begun, "duration_ms")
            heard = between if duration is None else min(between, duration)
        self._row(playing, max(begun["timestamp"], event["timestamp"]), event["event_type"], heard)
        return True

    def _row(self, playing: Move, ended_at: int, ended_by: str, ms_played: int) -> None:
        begun, listen = playing.event, playing.listen
        duration = begun.get("duration_ms")
        listen.heard += ms_played
        is_stream = listen.heard >= 30_000 and not listen.streamed
        long = not duration or duration < 0 or duration > 30_000
        half = 240_000 if not duration or duration < 0 else min(duration / 2, 240_000)
        is_scrobble = long and listen.heard >= half and not listen.scrobbled
        listen.streamed |= is_stream
        listen.scrobbled |= is_scrobble
        self.rows[begun["event_id"]] = {
            "started_at": begun["timestamp"],
            "ended_at": ended_at,
            "ended_by": ended_by,
            "ms_played": ms_played,
            "is_stream": is_stream,
            "is_scrobble": is_scrobble,
            "listen_id": listen.id,
            "stretch": listen.stretches,
        }

    def finish(self, clock: int) -> dict[str, Row]:
        """All rows at stream time `clock`."""
        for key in self._keys.values():
            self._time_out(key.live, clock)
            self._time_out(key.behind, clock)
        return self.rows


def told(event: Event, name: str) -> int | None:
    """A number that the client told; a negative one says nothing."""
    value = event.get(name)
    return None if value is None or value < 0 else value


def clocked(log: Iterable[Event | int]) -> Iterable[tuple[Event | None, int]]:
    """The log with stream time; an int is a watermark record."""
    clock = 0
    for entry in log:
        clock = max(clock, entry if isinstance(entry, int) else entry["timestamp"])
        yield (None if isinstance(entry, int) else entry), clock


@dataclass
class Stay:
    """An open session."""

    row: Row
    last: int
    clock: int
    newest: int
    tracks: set[str] = field(default_factory=set)
    devices: set[str] = field(default_factory=set)


class Sessions:
    """Rows of `sessions` by session_key."""

    def __init__(self, gap_ms: int, events_max: int) -> None:
        self._gap_ms, self._events_max = gap_ms, events_max
        self._newest: dict[Any, int] = {}
        self._open: dict[Any, Stay] = {}
        self.rows: dict[str, Row] = {}

    def take(self, event: Event, clock: int) -> None:
        """One event; `clock` is stream time after it."""
        user, at, gap_ms = (event["tenant"], event["user_id"]), event["timestamp"], self._gap_ms
        newest = self._newest.get(user)
        behind = newest is not None and at < newest - gap_ms and newest >= clock - gap_ms
        self._newest[user] = at if newest is None else max(newest, at)
        stay = self._open.get((user, behind))
        reached = at
        if stay is not None:
            apart = at - stay.newest > gap_ms or stay.last - at > gap_ms or clock - stay.clock > gap_ms
            if not apart:
                reached = max(at, stay.newest)
            if apart or stay.row["events"] == self._events_max:
                self._close(self._open.pop((user, behind)), "gap" if apart else "size")
                stay = None
        if stay is None:
            names = ("tenant", "source", "user_id", "platform", "country")
            zeros = dict.fromkeys(("events", "plays", "skips", "likes", "shares", "ms_played"), 0)
            about = {"session_key": event["event_id"], **{name: event.get(name) for name in names}}
            stay = Stay({**about, **zeros, "started_at": at, "ended_at": at}, at, clock, at)
            self._open[user, behind] = stay
        row = stay.row
        stay.last, stay.clock, stay.newest = at, clock, reached
        row["started_at"], row["ended_at"] = min(row["started_at"], at), max(row["ended_at"], at)
        row["events"] += 1
        row["ms_played"] += told(event, "ms_played") or 0
        if event["event_type"] != "pause":
            row[event["event_type"] + "s"] += 1
        stay.tracks.add(event["track_id"])
        if event.get("device") is not None:
            stay.devices.add(event["device"])

    def _close(self, stay: Stay, ended_by: str) -> None:
        counts = {"tracks": len(stay.tracks), "devices": len(stay.devices), "ended_by": ended_by}
        self.rows[stay.row["session_key"]] = {**stay.row, **counts}

    def finish(self, clock: int) -> dict[str, Row]:
        """All rows at stream time `clock`."""
        for key, stay in list(self._open.items()):
            if clock - stay.clock > self._gap_ms:
                self._close(self._open.pop(key), "gap")
        return self.rows
