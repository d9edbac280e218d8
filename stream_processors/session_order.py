"""Sessions by the order of their events: where the borders are, for listeners of whom sums alone do not tell."""

from __future__ import annotations

import numpy as np

from stream_processors.distinct import DistinctItems
from stream_processors.lanes import (
    NEVER,
    Bools,
    Columns,
    Ints,
    Keys,
    after,
    before,
    continues,
    first_of,
    picked,
    running_max,
    sorting,
    spread,
)
from stream_processors.session import DEVICE, KINDS, NUMBERS


def in_order(
    heads: Columns, events: Columns, items: DistinctItems, gap_ms: int, events_max: int, clock: int
) -> tuple[Columns, Columns]:
    """(sessions that have ended at stream time `clock`, those that go on) of listeners with these open sessions.

    All have the numbers of OPEN, where `key` is any number of the listener, and `text`; what has ended has `by_size`.
    """
    rows = {name: np.concatenate((heads[name], events[name])) for name in (*NUMBERS, "text")}
    rows["row"] = np.arange(len(rows["key"]))
    lane = _in_lanes(picked(rows, sorting(rows["key"])), heads, gap_ms)
    begins = _borders(lane, heads, gap_ms, events_max)
    sessions = _summed(lane, heads, begins, items)
    follows = after(continues(lane["lane"]))[sessions["end"]]
    sessions["by_size"] = follows & ~after(lane["apart"])[sessions["end"]]
    closed = follows | (clock - sessions["clock"] > gap_ms)
    return picked(sessions, np.flatnonzero(closed)), picked(sessions, np.flatnonzero(~closed))


def _in_lanes(rows: Columns, heads: Columns, gap_ms: int) -> Columns:
    """The rows sorted by lane, each lane in the order of the log; adds `newest`, what each row says about it."""
    timestamp, clock = rows["timestamp"], rows["clock"]
    same = continues(rows["key"])
    is_head = rows["row"] < len(heads["key"])
    was_behind = spread(heads["behind"], rows["row"])
    says = rows["newest"] = np.where(is_head, spread(heads["newest"], rows["row"]), timestamp)
    newest = running_max(np.where(was_behind, NEVER, says), first_of(same))
    known = np.where(same, before(newest), NEVER)
    rows["behind"] = np.where(is_head, was_behind, (timestamp < known - gap_ms) & (known >= clock - gap_ms))
    rows["lane"] = 2 * rows["key"] + rows["behind"]
    return picked(rows, sorting(rows["lane"])) if rows["behind"].any() else rows


def _borders(lane: Columns, heads: Columns, gap_ms: int, events_max: int) -> Bools:
    """Where a session begins; makes `newest` that up to each row, and adds `apart`: it begins because of a gap."""
    timestamp, clock = lane["timestamp"], lane["clock"]
    same = continues(lane["lane"])
    near = same & (clock - before(clock) <= gap_ms) & (before(timestamp) - timestamp <= gap_ms)
    newest = lane["newest"] = running_max(lane["newest"], first_of(near))
    near &= timestamp - before(newest) <= gap_ms
    lane["apart"] = ~near
    first = first_of(near)
    had = spread(heads["events"], lane["row"])
    events = np.arange(len(near)) - first + (had - (had > 0))[first]
    number = events // events_max
    begins: Bools = ~near | (number != before(number))
    return begins


def _summed(lane: Columns, heads: Columns, begins: Bools, items: DistinctItems) -> Columns:
    """One row per session: what its head says, if it begins with one, and what its events add."""
    start = np.flatnonzero(begins)
    end = np.append(start[1:], len(begins)) - 1
    sessions: Columns = {
        **{name: lane[name][end] for name in ("track", "device", "kind", "timestamp", "clock", "newest")},
        **{name: lane[name][start] for name in ("key", "owner", "row", "behind", "text")},
        "end": end,
        "ms_played": np.add.reduceat(lane["ms_played"], start),
        "started_at": np.minimum.reduceat(lane["timestamp"], start),
        "ended_at": np.maximum.reduceat(lane["timestamp"], start),
    }
    is_head = lane["row"] < len(heads["key"])
    event = ~is_head
    counted = {"events": event, **{name: event & (lane["kind"] == kind) for name, kind in KINDS.items()}}
    added = {name: np.add.reduceat(which, start, dtype=np.int64) for name, which in counted.items()}
    tracks, devices = _new_items(lane, is_head, begins, sessions["owner"], items)
    for name, more in (added | {"tracks": tracks, "devices": devices}).items():
        sessions[name] = spread(heads[name], sessions["row"]) + more
    old = np.flatnonzero(sessions["row"] < len(heads["key"]))
    for name, choose in (("started_at", np.minimum), ("ended_at", np.maximum)):
        sessions[name][old] = choose(sessions[name][old], heads[name][sessions["row"][old]])
    return sessions


def _new_items(lane: Columns, is_head: Bools, begins: Bools, owner: Keys, known: DistinctItems) -> tuple[Ints, Ints]:
    """How many tracks and devices each session has not had before. Only changes of the item need to be asked."""
    nth = np.cumsum(begins) - 1
    track = np.flatnonzero(~is_head & (begins | (lane["track"] != before(lane["track"]))))
    other = begins | (lane["device"] != before(lane["device"]))
    device = np.flatnonzero(~is_head & other & (lane["device"] != 0))
    of = nth[np.concatenate((track, device))]
    items = np.concatenate((lane["track"][track], lane["device"][device] ^ DEVICE))
    is_new = known.add(owner[of], items)
    tracks, devices = of[: len(track)][is_new[: len(track)]], of[len(track) :][is_new[len(track) :]]
    return np.bincount(tracks, minlength=len(owner)), np.bincount(devices, minlength=len(owner))
