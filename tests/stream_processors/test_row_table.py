"""The table of rows: any changes, snapshots, restarts and moments of compaction lead to what a dict holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream_processors import row_table
from stream_processors.row_table import CLOSED, FIELDS, SILENT, RowTable, row_behind

Known = dict[tuple[int, bool], int]
"""Clock of each open row by key and lane."""

changes = st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.booleans()), max_size=8)
ends = st.sampled_from(["nothing", "snapshot", "restart", "compact"])


def change(table: RowTable, known: Known, key: int, *, is_behind: bool, opens: bool) -> None:
    """Writes one row as a fold does: none is behind a closed one."""
    if (is_behind and (key, False) not in known) or (not is_behind and not opens and (key, True) in known):
        return
    live = row = int(table.find(np.array([key], np.uint64))[0])
    if is_behind:
        row = row_behind(table.records, live, table.count)
        table.count = max(table.count, row + 1)
    clock = known.pop((key, is_behind), 0) + key + 1
    if opens:
        known[key, is_behind] = clock
    table.records["clock"][row], table.records["state"][row] = clock, SILENT if opens else CLOSED
    table.changed[[live, row]] = True
    table.height = len(known)


def open_rows(table: RowTable) -> Known:
    rows = table.records[: table.count]
    return {(int(row["key"]), bool(row["behind"])): int(row["clock"]) for row in rows if row["state"] != CLOSED}


_GIVEN_AGAIN = [
    ([(2, False, True), (2, True, True), (3, False, True), (3, True, False)], "restart"),
    ([(1, False, True)], "restart"),
    ([(3, True, False)], "nothing"),
]
"""The number of a closed row that was the last goes to another key, while an older run still has who it was behind."""


@given(st.lists(st.tuples(changes, ends), max_size=12))
@example(_GIVEN_AGAIN)
@settings(max_examples=400, deadline=None)
def test_rows_are_those_of_a_dict(calls: list[tuple[list[tuple[int, bool, bool]], str]]) -> None:
    """Live rows are found by key and rows behind them by the live row; each says what was written last."""
    table, known = RowTable(np.dtype(FIELDS), {}), Known()
    saved: dict[str, tuple[object, bytes]] = {}
    for call, end in calls:
        for key, is_behind, opens in call:
            change(table, known, key, is_behind=is_behind, opens=opens)
        if end == "compact":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(row_table, "_COMPACT_ROWS", 0)
                table.compact()
        elif end != "nothing":
            segments = table.segments().items()
            saved = {
                name: saved[name] if name in saved and saved[name][0] == one.token else (one.token, one.data())
                for name, one in segments
            }
        if end == "restart":
            table = RowTable(np.dtype(FIELDS), {name: data for name, (_, data) in saved.items()})
        assert open_rows(table) == known
        assert table.height == len(known)
    for key, is_behind in known:
        live = table.records[int(table.find(np.array([key], np.uint64))[0])]
        row = table.records[live["other"]] if is_behind else live
        assert (row["key"], row["behind"], row["clock"]) == (key, is_behind, known[key, is_behind])


def test_room_follows_the_keys_and_not_the_events() -> None:
    """Many events of few keys take little memory; many keys at once are all told apart, with room for a row behind."""
    table = RowTable(np.dtype(FIELDS), {})
    few = np.tile(np.arange(1, 11, dtype=np.uint64), 50_000)
    assert (table.find(few) == np.tile(np.arange(10), 50_000)).all()
    assert len(table.records) <= 1024
    many = np.arange(1, 50_001, dtype=np.uint64)
    assert sorted(table.find(many)) == list(range(50_000))
    assert (table.records["key"][table.find(many)] == many).all()
    assert len(table.records) >= 2 * len(many)
