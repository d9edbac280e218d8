"""Runs a log through OpenPlays or OpenSessions with any cuts, moments of folding and restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl
from hypothesis import strategies as st

from crossfade.oracle import clocked
from schemas.codec import schema
from stream_processors.codes import marked
from stream_processors.segment import Segment

Event = dict[str, Any]
_POLARS = {"string": pl.String, "int": pl.Int32, "long": pl.Int64, "boolean": pl.Boolean}


class Open(Protocol):
    def add(self, frame: pl.DataFrame) -> None: ...
    def due(self, clock: int) -> bool: ...
    def take(self, clock: int) -> pl.DataFrame: ...
    def segments(self) -> dict[str, Segment]: ...


def event(number: int | str, kind: str, second: float, **others: Any) -> Event:
    """An event of one listener, track and device, unless said otherwise."""
    told = {"event_id": str(number), "event_type": kind, "timestamp": int(second * 1000), "track_id": "a"}
    return {**told, "user_id": "ann", "tenant": "default", "source": "replay", "platform": "custom", **others}


def frame(events: Iterable[tuple[Mapping[str, Any], int]]) -> pl.DataFrame:
    """Events as the worker has them, with `clock`."""
    columns: dict[str, Any] = {"clock": pl.Int64}
    for field in schema("listening_event")["fields"]:
        kind = field["type"][1] if isinstance(field["type"], list) else field["type"]
        columns[field["name"]] = pl.Int64 if isinstance(kind, dict) else _POLARS[kind]
    columns["event_type"] = pl.Categorical
    return marked(pl.DataFrame([{**told, "clock": clock} for told, clock in events], schema=columns))


@dataclass(frozen=True)
class Step:
    """After how many entries a batch ends, and what happens then."""

    entries: int
    take: bool
    snapshot: bool
    restart: bool


steps = st.lists(st.builds(Step, st.integers(1, 12), st.booleans(), st.booleans(), st.booleans()), max_size=12)


def run(
    new: Callable[[Mapping[str, bytes]], Open], log: list[Event | int], how: Iterable[Step]
) -> list[dict[str, Any]]:
    """The rows that a log leads to. A restart goes on from the last snapshot, so its input is read again."""
    entries = list(clocked(log))
    state, kept, at = new({}), {}, 0  # kept: what a snapshot has written, by name: token and bytes
    saved, rows = 0, {}
    plan = iter(how)
    while at < len(entries):
        step = next(plan, Step(len(entries), True, False, False))
        batch = entries[at : at + step.entries]
        at += len(batch)
        state.add(frame((told, clock) for told, clock in batch if told is not None))
        if step.take:
            _emit(rows, state.take(batch[-1][1]))
        if step.snapshot:
            kept, saved = _save(state, kept), at
        if step.restart:
            state, at = new({name: data for name, (_, data) in kept.items()}), saved
    _emit(rows, state.take(entries[-1][1] if entries else 0))
    return list(rows.values())


def _save(state: Open, kept: dict[str, tuple[object, bytes]]) -> dict[str, tuple[object, bytes]]:
    return {
        name: kept[name] if name in kept and kept[name][0] == segment.token else (segment.token, segment.data())
        for name, segment in state.segments().items()
    }


def _emit(rows: dict[Any, dict[str, Any]], found: pl.DataFrame) -> None:
    """A row that is emitted again, after a restart, says the same."""
    for row in found.to_dicts():
        assert rows.setdefault(next(iter(row.values())), row) == row
