"""Snapshots in a changelog: the manifest is the commit, and only what changed is written."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.segment import Segment
from stream_processors.snapshots import ADOPT_BYTES, PIECE_BYTES, Snapshots
from tests.stream_processors.changelog import Changelog


def segments(contents: dict[str, bytes]) -> dict[str, Segment]:
    return {name: Segment(data, lambda data=data: data) for name, data in contents.items()}


class Worker:
    """A worker that owns partition 0 of a table."""

    def __init__(self, table: Any) -> None:
        self.table, self.snapshots = table, Snapshots(table, "v1")
        self.found = self.snapshots.load(0)

    def save(self, next_offset: int, state: dict[str, bytes]) -> int:
        return asyncio.run(self.snapshots.write(self.snapshots.take(0, {"next": next_offset}, segments(state))))


def save(table: Any, states: list[dict[str, bytes]]) -> None:
    worker = Worker(table)
    for i, state in enumerate(states):
        worker.save(i + 1, state)


@given(
    st.lists(st.dictionaries(st.sampled_from("abcd"), st.binary(max_size=9), max_size=4), min_size=1), st.integers(0)
)
@settings(max_examples=200, deadline=None)
def test_a_worker_that_dies_anywhere_leaves_the_old_or_the_new_state(states: list[dict[str, bytes]], cut: int) -> None:
    """Every prefix of the changelog is a whole snapshot."""
    table = Changelog()
    save(table, states)
    survivor = Snapshots(Changelog(table.log[: cut % (len(table.log) + 1)]), "v1")
    header, found = survivor.load(0)
    assert found == (states[header["next"] - 1] if header else {})


def test_unchanged_segments_are_not_written_again() -> None:
    """The second snapshot writes only the segment that changed and the manifest."""
    table = Changelog()
    save(table, [{"big": b"x" * 10_000, "small": b"1"}, {"big": b"x" * 10_000, "small": b"2"}])
    written = [len(value) for _, value in table.log if value is not None]
    assert written.count(10_000) == 1


def test_a_segment_larger_than_a_record_is_kept_in_pieces() -> None:
    """State may outgrow the largest record that the broker takes."""
    table, state = Changelog(), {"large": bytes(PIECE_BYTES * 2 + 1)}
    save(table, [state])
    assert max(len(value or b"") for _, value in table.log) <= PIECE_BYTES
    assert Snapshots(table, "v1").load(0)[1] == state


def test_a_state_that_cannot_be_used_is_built_again() -> None:
    """The layout of another release, or a manifest with a missing segment, counts as no state."""
    table = Changelog()
    save(table, [{"a": b"1"}])
    assert Snapshots(table, "v2").load(0) == ({}, {})
    del table.data[next(key for key in table.data if "/a/" in key)]
    assert Snapshots(table, "v1").load(0) == ({}, {})


contents = st.lists(st.dictionaries(st.sampled_from("abcd"), st.binary(max_size=9), max_size=4), min_size=1, max_size=9)
steps = st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(1, 3)), min_size=1, max_size=25)


@given(contents, steps)
@settings(max_examples=300, deadline=None)
def test_workers_that_write_at_the_same_time_never_spoil_a_state(
    contents: list[dict[str, bytes]], steps: list[tuple[int, bool, int]]
) -> None:
    """A successor of owners and zombies finds what one of them saved, whole, never older than the last owner found."""
    log: list[tuple[str, bytes | None]] = []
    workers: dict[int, Worker] = {}
    at: dict[int, int] = {}
    found_by_owner = 0
    for number, is_assigned_anew, progress in steps:
        if number not in workers or is_assigned_anew:
            workers[number] = Worker(Changelog(list(log)))  # its table is recovered from the log
            at[number] = found_by_owner = workers[number].found[0].get("next", 0)
            held = workers[number].found[1]
            workers[number].snapshots.adopt(0, segments(held))
        worker, at[number] = workers[number], at[number] + progress
        before = len(worker.table.log)
        worker.save(at[number], contents[at[number] % len(contents)])
        log += worker.table.log[before:]
    header, found = Worker(Changelog(log)).found
    assert found == contents[header["next"] % len(contents)]
    assert header["next"] >= found_by_owner


def test_what_a_predecessor_wrote_is_taken_over_without_writing_it_again_at_once() -> None:
    """A large state moves to another worker in steps; until it is done, the predecessor's records stay."""
    table = Changelog()
    states = {name: bytes([i]) * (ADOPT_BYTES // 2) for i, name in enumerate("abc")}
    save(table, [states])
    successor = Worker(Changelog(list(table.log)))
    assert successor.found == ({"next": 1}, states)
    successor.snapshots.adopt(0, segments(states))
    written = [successor.save(2 + i, states) for i in range(3)]
    assert written[0] <= ADOPT_BYTES + 2_000
    assert ADOPT_BYTES // 2 <= written[1] <= ADOPT_BYTES // 2 + 2_000
    assert written[2] <= 2_000
    assert Worker(Changelog(list(successor.table.log))).found == ({"next": 4}, states)
    owners = {key.split("/")[1] for key in successor.table.data}
    assert len(owners) == 1
